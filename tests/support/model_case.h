// A model on one rank with parameters that tests can tell apart, and its gradient held against
// central differences.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "dist/thread_communicator.h"
#include "kernels/error.h"
#include "model/transformer.h"

namespace longscan::test {

/// Runs `body(device, parameters, transformer)` as the only rank, with parameters larger than at
/// the beginning of a training.
template <class Body>
void with_model(const ModelOptions& options, const Body& body) {
  run_ranks(1, [&](Communicator& group) {
    Device device = Device::cpu(1);
    Parameters parameters(options, device);
    parameters.initialize(11);
    auto* values = parameters.flat().as<double>();
    for (std::int64_t i = 0; i < parameters.decayed(); ++i) values[i] *= 10;
    // Biases and norms away from zero and one, so that their gradients are tested where they act.
    for (std::int64_t i = parameters.decayed(); i < parameters.flat().size(); ++i) {
      values[i] += 0.1 * std::sin(static_cast<double>(i));
    }
    Transformer transformer(options, device, group);
    transformer.draw_features(5, 0);
    body(device, parameters, transformer);
  });
}

/// The gradient of the loss of `segments`, with respect to some elements of every parameter of a
/// model in double.
inline void expect_central_differences(const ModelOptions& options, std::span<const Shard> segments,
                                       double dropout) {
  with_model(options, [&](Device& device, Parameters& parameters, Transformer& transformer) {
    const DropoutPlan plan{.rate = dropout, .seed = 2, .line = 4};
    Parameters gradient(options, device);
    Parameters unused(options, device);
    const auto loss_and_gradient = [&](const Parameters& d_parameters) {
      double totals[3] = {};
      transformer.train(parameters.weights(), d_parameters.weights(),
                        Tensor::dense(totals, DType::f64, {3}), segments, plan);
      return totals[0];
    };
    loss_and_gradient(gradient);
    const auto loss = [&] { return loss_and_gradient(unused); };
    for (const Parameter& parameter : parameters.list()) {
      auto* values = parameter.tensor.as<double>();
      const std::int64_t offset = values - parameters.flat().as<double>();
      // Every element would take minutes; a stride that is prime to all shapes meets all rows and
      // columns.
      for (std::int64_t i = 0; i < parameter.tensor.size(); i += 23) {
        // So small that hardly any number steps over the kink of a relu.
        const double step = 1e-6;
        const double before = values[i];
        values[i] = before + step;
        const double above = loss();
        values[i] = before - step;
        const double below = loss();
        values[i] = before;
        const double expected = (above - below) / (2 * step);
        EXPECT_NEAR(gradient.flat().as<double>()[offset + i], expected,
                    1e-6 * std::max(1.0, std::abs(expected)))
            << parameter.name << "[" << i << "]";
      }
    }
  });
}

}  // namespace longscan::test
