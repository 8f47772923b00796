// Whole training steps with every kind of attention, and of reversible models.
#pragma once

#include "benchmarks/kinds.h"
#include "benchmarks/training.h"

namespace longscan::benchmark {

/// For every kind and length a process that alternates steps of the kind with steps of the
/// identity, which is as fast as any attention can be. Prints medians, the memory that a step
/// needs beside parameters and optimizer, and the exponents by which both grow with the length.
/// False when a kind's losses on two ranks differ from those on one, a loss is not finite, or
/// memory grows faster than the length.
bool compare_kinds(const Setting& setting, const std::vector<AttentionKind>& kinds,
                   const Lengths& lengths, int repeats, Table& table);

/// The same memory for 2 to 16 layers, with and without reversible blocks. False when a loss is not
/// finite, or the memory of reversible models grows with their depth.
bool compare_depths(const Setting& setting, int repeats);

}  // namespace longscan::benchmark
