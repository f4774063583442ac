#include "cpu/group_work.h"

#include <algorithm>
#include <thread>

#include "common/params.h"

namespace zoosparse {
namespace {

constexpr int kMostPieces = 8;

}  // namespace

int GroupWork::pieces_of(int64_t batch_size) {
  int pieces = 1;
  while (pieces < kMostPieces && batch_size >= 10 * pieces) pieces *= 2;
  return pieces;
}

GroupWork::GroupWork(int64_t samples, int64_t batch_size)
    : samples_(samples),
      batch_size_(batch_size),
      steps_(batches(samples, batch_size)),
      pieces_(pieces_of(batch_size)),
      taken_((1u << kMostPieces) - 1) {}

void GroupWork::begin(float* shared) {
  shared_ = shared;
  taken_.store(0, std::memory_order_release);
}

// Far from those who joined before: 0, 4, 2, 6, 1, 5, 3, 7.
int GroupWork::join() {
  const int thread = threads_++;
  if (thread >= pieces_) return -1;
  int preferred = 0;
  for (int bit = 1, far = pieces_ / 2; bit < pieces_; bit *= 2, far /= 2)
    if (thread & bit) preferred += far;
  return preferred;
}

bool GroupWork::take(int preferred, Piece& piece) {
  uint64_t taken = taken_.load(std::memory_order_acquire);
  const int64_t task = static_cast<int64_t>(taken >> kMostPieces);
  if (task >= tasks()) {
    piece = {Task::none, 0, 0};
    return true;
  }
  for (int i = 0; i < pieces_; ++i) {
    const int number = (preferred + i) % pieces_;
    if (taken >> number & 1) continue;
    piece.task = task == 0             ? Task::load
                 : task == tasks() - 1 ? Task::store
                 : task % 2 == 1       ? Task::batch
                                       : Task::update;
    piece.step = (task - 1) / 2;
    piece.number = number;
    return taken_.compare_exchange_weak(taken, taken | uint64_t{1} << number, std::memory_order_acq_rel);
  }
  return false;
}

// Pieces take fractions of a millisecond, so waiting threads look again at once; where there are more threads than
// cores, the one that is waited for must get its turn.
Piece GroupWork::next(int preferred) {
  Piece piece;
  for (int look = 0; !take(preferred, piece); ++look)
    if (look >= 256) std::this_thread::yield();
  return piece;
}

void GroupWork::finish() {
  if (finished_.fetch_add(1, std::memory_order_acq_rel) + 1 < pieces_) return;
  finished_.store(0, std::memory_order_relaxed);
  const uint64_t task = taken_.load(std::memory_order_relaxed) >> kMostPieces;
  taken_.store((task + 1) << kMostPieces, std::memory_order_release);
}

// The larger parts come first, so that two threads share an even batch equally.
Range GroupWork::samples(const Piece& piece) const {
  const int64_t size = batch(piece.step) / pieces_, larger = batch(piece.step) % pieces_, k = piece.number;
  return {k * size + std::min(k, larger), size + (k < larger)};
}

int64_t GroupWork::batch(int64_t step) const { return std::min(batch_size_, samples_ - step * batch_size_); }

Range GroupWork::columns(const Piece& piece, int64_t parameters) const {
  const int64_t first = parameters * piece.number / pieces_;
  return {first, parameters * (piece.number + 1) / pieces_ - first};
}

}  // namespace zoosparse
