// Loss and gradients of a small model over ranks and segments, and how far two such results are
// apart.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "dist/device_communicator.h"
#include "dist/gradient_sum.h"
#include "dist/thread_communicator.h"
#include "model/transformer.h"
#include "tests/support/device_numbers.h"
#include "tests/support/lines.h"

namespace longscan::test {

struct Trained {
  LossTotals totals;
  std::map<std::string, std::vector<double>> gradient;  // by parameter
};

/// Weights larger than at the beginning of a training, so that attention is far from uniform.
inline void draw_large_weights(Parameters& parameters) {
  parameters.initialize(3);
  Device& device = parameters.device();
  Buffer numbers(parameters.flat().bytes());
  device.download(numbers.data(), parameters.flat());
  const auto grow = [&]<class T>(T* values) {
    for (std::int64_t i = 0; i < parameters.decayed(); ++i) values[i] *= 12;
  };
  parameters.flat().dtype == DType::f32 ? grow(reinterpret_cast<float*>(numbers.data()))
                                        : grow(reinterpret_cast<double*>(numbers.data()));
  parameters.upload(numbers.data());
}

/// The line's loss and gradient over `ranks` threads in `segments`, each on a device that
/// `make_device` makes.
inline Trained train_once_on(const std::function<Device()>& make_device,
                             const ModelOptions& options, const Line& line, int ranks, int segments,
                             double dropout = 0) {
  Trained result;
  std::mutex mutex;
  run_ranks(ranks, [&](Communicator& host) {
    Device device = make_device();
    DeviceCommunicator group(host, device, Carrier::host);
    Parameters parameters(options, device);
    Parameters gradient(options, device, ParameterUse::sums);
    draw_large_weights(parameters);
    Transformer transformer(options, device, group);
    transformer.draw_features(4, 0);
    const RankLine mine = shards_of(line, segments, ranks, group.rank());
    const DeviceNumbers<double> totals(device, {0, 0, 0});
    transformer.train(parameters.weights(), gradient.weights(), totals.tensor(), mine.shards,
                      {.rate = dropout, .seed = 5, .line = 9});
    sum_gradient(group, gradient.flat(), totals.tensor());
    const std::lock_guard lock(mutex);
    if (group.rank() != 0) return;
    HostCopy totals_on_host;
    result.totals = LossTotals::from(totals_on_host.of(device, totals.tensor()));
    for (const auto& [name, tensor] : gradient.list()) {
      HostCopy copy;
      const Tensor numbers = copy.of(device, tensor);
      for (std::int64_t i = 0; i < tensor.size(); ++i) {
        result.gradient[name].push_back(numbers.dtype == DType::f32 ? numbers.as<float>()[i]
                                                                    : numbers.as<double>()[i]);
      }
    }
  });
  return result;
}

/// The same on CPUs.
inline Trained train_once(const ModelOptions& options, const Line& line, int ranks, int segments,
                          int threads = 1, double dropout = 0) {
  return train_once_on([&] { return Device::cpu(threads); }, options, line, ranks, segments,
                       dropout);
}

/// The largest difference of any gradient, relative to the largest gradient of its parameter.
inline double difference(const Trained& a, const Trained& b) {
  double worst = 0;
  for (const auto& [name, values] : b.gradient) {
    double largest = 0;
    double furthest = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      largest = std::max(largest, std::abs(values[i]));
      furthest = std::max(furthest, std::abs(a.gradient.at(name)[i] - values[i]));
    }
    worst = std::max(worst, furthest / largest);
  }
  return worst;
}

/// The root of the mean squared difference of all gradients, each relative to the root of the mean
/// square of its parameter: what rounding does on the whole, not to the unluckiest number.
inline double mean_difference(const Trained& a, const Trained& b) {
  double sum = 0;
  for (const auto& [name, values] : b.gradient) {
    double squares = 0;
    double errors = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double error = a.gradient.at(name)[i] - values[i];
      squares += values[i] * values[i];
      errors += error * error;
    }
    sum += errors / squares;
  }
  return std::sqrt(sum / static_cast<double>(b.gradient.size()));
}

// Documents that begin one token before, on, and one token behind every cut of this run, each at
// its own cuts so that they do not hide each other, and a document of one token. No start: one
// document over all shards.
inline std::vector<std::vector<std::int64_t>> starts_around_cuts(std::int64_t size, int segments,
                                                                 int ranks) {
  std::vector<std::vector<std::int64_t>> choices = {{}, {}, {}, {}, {size / 3, size / 3 + 1}};
  const std::vector<std::int64_t> segment_cuts = uneven_cuts(0, size, segments);
  for (int segment = 0; segment < segments; ++segment) {
    for (const std::int64_t cut :
         uneven_cuts(segment_cuts[segment], segment_cuts[segment + 1], ranks)) {
      for (const int offset : {-1, 0, 1}) {
        const std::int64_t start = cut + offset;
        if (start > 0 && start < size) choices[2 + offset].push_back(start);
      }
    }
  }
  for (std::vector<std::int64_t>& starts : choices) {
    std::sort(starts.begin(), starts.end());
    starts.erase(std::unique(starts.begin(), starts.end()), starts.end());
  }
  return choices;
}

}  // namespace longscan::test
