// The arguments of train_steps_, checked and settled for the engine of any device.
#pragma once

#include <vector>

#include "common/params.h"
#include "common/tensor.h"

namespace zoosparse {

// As the schema of train_steps_ has them, in its order; tensors that are not used are empty.
struct TrainTensors {
  static constexpr size_t kFields = 28;

  Tensor weights, moment1, moment2, log_sigma2, sigma_moment1, sigma_moment2;
  Tensor program, values, clamp, images, mean, std, labels, order;
  int64_t batch_size, optimizer;
  Tensor hyper, lr_factor, packed_masks, dropout, seeds;
  int64_t seed, first_step;
  double kl_weight;
  bool variational_bias;
  int64_t loss, crop;
  bool flip;
};

// What training needs, all of it where the weights are. Weights, their state, images and labels must be there already;
// what is small comes along from wherever it is.
class TrainArguments {
 public:
  explicit TrainArguments(const TrainTensors& tensors);

  const std::vector<TrainOp>& program() const { return program_; }
  const TrainParams& params() const { return params_; }
  const Tensor& loss_sum() const { return loss_sum_; }  // float64 [N], zeros
  const Tensor& correct() const { return correct_; }    // int64 [N], zeros

 private:
  float* matrix(const Tensor& tensor, bool required, const char* name) const;
  template <class T>
  const T* array(const Tensor& tensor, ScalarType type, Ints shape, const char* name);
  void set_matrices(const TrainTensors& tensors);
  void set_images(const TrainTensors& tensors);
  void set_pixels(const TrainTensors& tensors);
  void set_steps(const TrainTensors& tensors);

  Place place_;
  TrainParams params_{};
  std::vector<TrainOp> program_;
  std::vector<Tensor> kept_;  // what params_ points to
  Tensor loss_sum_, correct_;
};

}  // namespace zoosparse
