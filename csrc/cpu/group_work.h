// The training of one group of models, cut into pieces that several threads may work on.
#pragma once

#include <atomic>
#include <cstdint>

namespace zoosparse {

enum class Task { load, batch, update, store, none };

// One of the pieces of a task.
struct Piece {
  Task task;
  int64_t step;
  int number;
};

// Samples of a step's batch, or columns of the parameters: [first, first + count).
struct Range {
  int64_t first, count;
};

// Tasks follow each other: load, then batch and update of every step, then store. Each is cut into the same number of
// pieces, and the next begins when all of them are finished. Gradients are summed within a part of a batch, and the
// parts in their order, whoever worked on them: a step gives the same bits on any number of threads.
class GroupWork {
 public:
  GroupWork(int64_t samples, int64_t batch_size);

  // A part of a batch needs gradients of its own: that of five samples is worth it. A power of two, for so are most
  // counts of cores; the size of the batch alone decides, since the sum depends on it.
  static int pieces_of(int64_t batch_size);
  int pieces() const { return pieces_; }  // as many threads can share a group

  // The first piece is given out once the group has its memory.
  void begin(float* shared);
  float* shared() const { return shared_; }  // once `next` has returned a piece

  // What a thread that joins the one that began prefers to work on, or -1: there are as many threads as pieces.
  int join();
  // Waits for the next piece; `preferred` or the first free one after it, so that a thread finds most of what it reads
  // in its own cache. Task::none when all is done.
  Piece next(int preferred);
  void finish();  // a piece that `next` returned

  Range samples(const Piece& piece) const;
  int64_t batch(int64_t step) const;  // samples in it
  Range columns(const Piece& piece, int64_t parameters) const;

 private:
  int64_t tasks() const { return 2 * steps_ + 2; }
  bool take(int preferred, Piece& piece);

  const int64_t samples_, batch_size_, steps_;
  const int pieces_;
  float* shared_ = nullptr;
  std::atomic<int> threads_{1};
  alignas(64) std::atomic<uint64_t> taken_;  // number of the task << 8 | a bit for each piece
  alignas(64) std::atomic<int> finished_{0};
};

}  // namespace zoosparse
