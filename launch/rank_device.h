// What a rank computes on: the CPU, or a GPU of its own.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>

#include "io/configuration.h"
#include "kernels/device.h"
#include "launch/session.h"

namespace longscan {

/// The most that --threads takes, as the rule of parallel.threads has it.
constexpr int kMostThreads = 1 << 20;

/// What a verb is told about it.
struct DeviceChoice {
  std::string device = "auto";           ///< auto, cpu or cuda
  std::string communicator = "fastest";  ///< fastest, nccl or mpi
  std::string precision = "fp32";        ///< fp32, tf32 or bf16
  std::int64_t threads = 0;              ///< of the CPU; 0: the rank's share of the cores

  static DeviceChoice of(const config::Config& configuration);
  void declare(CLI::App& app);

  /// Of a model's activations.
  DType dtype() const { return precision == "bf16" ? DType::bf16 : DType::f32; }
};

/// A rank's device, and the ranks as they talk to each other through it.
class RankDevice {
 public:
  /// Collective. Ranks of a machine take its GPUs in turn. Throws usage where a GPU is asked for
  /// and one of the ranks has none, saying what is missing.
  RankDevice(Session& session, const DeviceChoice& choice);
  RankDevice(const RankDevice&) = delete;
  RankDevice& operator=(const RankDevice&) = delete;

  Device& device() { return device_; }
  Communicator& world() const { return on_gpus_ ? *on_gpus_ : session_.world(); }
  /// "2 threads each", "NVIDIA H200 each, by NCCL"
  const std::string& description() const { return description_; }

 private:
  /// `index`: of the rank's GPU, where it takes one.
  RankDevice(Session& session, const DeviceChoice& choice, int index);

  Session& session_;
  std::string description_;
  Device device_;
  std::unique_ptr<Communicator> on_gpus_;
};

}  // namespace longscan
