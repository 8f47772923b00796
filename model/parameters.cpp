// Layout of the flat buffer and initial values.
#include "model/parameters.h"

#include <cmath>
#include <functional>

#include "kernels/elementwise.h"
#include "kernels/random.h"

namespace longscan {

namespace {

// One parameter while the buffer is laid out: where its view goes, and its shape (columns = 0: a
// vector).
struct Slot {
  std::string name;
  Tensor* view;
  std::int64_t rows;
  std::int64_t columns;
  double deviation;  // of the initial values of a matrix
  std::int64_t size() const { return columns == 0 ? rows : rows * columns; }
};

constexpr double kDeviation = 0.02;

// Adds what Linformer projects keys and values with in a layer (section 4, "parameter sharing").
void add_linformer(std::vector<Slot>& slots, const ModelOptions& options, std::int64_t layer,
                   Weights& weights) {
  const AttentionOptions& chosen = options.attention_of(layer);
  if (chosen.kind != AttentionKind::linformer) return;
  const double deviation = 1 / std::sqrt(static_cast<double>(chosen.projected_length));
  const std::string prefix = "layers." + std::to_string(layer) + ".attention.linformer";
  AttentionWeights& attention = weights.layers[static_cast<std::size_t>(layer)].attention;
  const auto add = [&](const std::string& name, Tensor& view) {
    const std::int64_t heads = chosen.sharing == LinformerSharing::none ? options.heads : 1;
    slots.push_back(
        {name, &view, heads * chosen.projected_length, options.longest_document, deviation});
  };
  switch (chosen.sharing) {
    case LinformerSharing::none:
    case LinformerSharing::headwise:
      add(prefix + ".key.weight", attention.linformer_key);
      add(prefix + ".value.weight", attention.linformer_value);
      break;
    case LinformerSharing::key_value:
      add(prefix + ".weight", attention.linformer_key);
      break;
    case LinformerSharing::layerwise:
      if (layer == options.first_with(AttentionKind::linformer)) {
        add("linformer.weight", attention.linformer_key);
      }
      break;
  }
}

// The views of those that have no parameter of their own.
void share_linformer(const ModelOptions& options, Weights& weights) {
  for (std::int64_t layer = 0; layer < options.layers; ++layer) {
    const AttentionOptions& chosen = options.attention_of(layer);
    if (chosen.kind != AttentionKind::linformer) continue;
    const auto attention_of = [&](std::int64_t index) -> AttentionWeights& {
      return weights.layers[static_cast<std::size_t>(index)].attention;
    };
    AttentionWeights& attention = attention_of(layer);
    if (chosen.sharing == LinformerSharing::layerwise) {
      attention.linformer_key =
          attention_of(options.first_with(AttentionKind::linformer)).linformer_key;
    }
    if (!attention.linformer_value.present()) attention.linformer_value = attention.linformer_key;
  }
}

// The names and shapes of all parameters, in the order in which a token meets them.
std::vector<Slot> slots_of(const ModelOptions& options, Weights& weights) {
  std::vector<Slot> slots;
  const std::int64_t width = options.width;
  const std::int64_t up_rows = options.hidden * (options.mlp == MlpKind::swiglu ? 2 : 1);
  const auto norm = [&](const std::string& name, NormWeights& w) {
    slots.push_back({name + ".weight", &w.weight, width, 0, 0});
    if (options.norm == NormKind::layer_norm)
      slots.push_back({name + ".bias", &w.bias, width, 0, 0});
  };
  const auto linear = [&](const std::string& name, Tensor& weight, Tensor& bias, std::int64_t rows,
                          std::int64_t columns, double deviation) {
    slots.push_back({name + ".weight", &weight, rows, columns, deviation});
    slots.push_back({name + ".bias", &bias, rows, 0, 0});
  };
  // What writes to the residual stream is smaller, as every layer adds to it twice.
  const double residual = kDeviation / std::sqrt(2.0 * static_cast<double>(options.layers));
  slots.push_back({"embedding.weight", &weights.embedding, options.vocabulary, width, kDeviation});
  if (options.positions == Positions::learned) {
    slots.push_back(
        {"positions.weight", &weights.positions, options.longest_document, width, kDeviation});
  }
  weights.layers.resize(static_cast<std::size_t>(options.layers));
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    const std::string prefix = "layers." + std::to_string(i);
    AttentionWeights& attention = weights.layers[i].attention;
    MlpWeights& mlp = weights.layers[i].mlp;
    norm(prefix + ".attention.norm", attention.norm);
    linear(prefix + ".attention.query_key_value", attention.query_key_value_weight,
           attention.query_key_value_bias, 3 * width, width, kDeviation);
    linear(prefix + ".attention.output", attention.output_weight, attention.output_bias, width,
           width, residual);
    add_linformer(slots, options, static_cast<std::int64_t>(i), weights);
    norm(prefix + ".mlp.norm", mlp.norm);
    linear(prefix + ".mlp.up", mlp.up_weight, mlp.up_bias, up_rows, width, kDeviation);
    linear(prefix + ".mlp.down", mlp.down_weight, mlp.down_bias, width, options.hidden, residual);
  }
  norm("norm", weights.norm);
  if (!options.tied_embedding) {
    slots.push_back({"head.weight", &weights.head, options.vocabulary, width, kDeviation});
  }
  return slots;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// FNV-1a: a parameter's random numbers are keyed by its name, so adding a layer changes no other
// parameter.
std::uint64_t hash_of(const std::string& name) {
  std::uint64_t hash = 14695981039346656037ull;
  for (const char letter : name) {
    hash = (hash ^ static_cast<unsigned char>(letter)) * 1099511628211ull;
  }
  return hash;
}

}  // namespace

Parameters::Parameters(const ModelOptions& options, Device& device, ParameterUse use)
    : device_(&device) {
  options.check();
  const DType dtype = sum_type(options.dtype);
  const std::vector<Slot> slots = slots_of(options, weights_);
  std::int64_t count = 0;
  for (const Slot& slot : slots) count += slot.size();
  buffer_ = device.allocate(count * size_of(dtype));
  flat_ = Tensor::dense(buffer_.data(), dtype, {count});
  std::int64_t offset = 0;
  const auto place = [&](bool matrices) {
    for (const Slot& slot : slots) {
      if ((slot.columns != 0) != matrices) continue;
      const Tensor piece = flat_.rows(offset, offset + slot.size());
      *slot.view = matrices ? piece.reshaped({slot.rows, slot.columns}) : piece;
      list_.push_back({slot.name, *slot.view});
      deviations_.push_back(slot.deviation);
      offset += slot.size();
    }
  };
  place(true);
  decayed_ = offset;
  place(false);
  if (use == ParameterUse::products && options.dtype != dtype) {
    rounded_memory_ = device.allocate(decayed_ * size_of(options.dtype));
    rounded_ = Tensor::dense(rounded_memory_.data(), options.dtype, {decayed_});
    offset = 0;
    for (const Slot& slot : slots) {
      if (slot.columns == 0) continue;
      const Tensor piece = rounded_.rows(offset, offset + slot.size());
      *slot.view = piece.reshaped({slot.rows, slot.columns});
      offset += slot.size();
    }
  }
  if (options.tied_embedding) weights_.head = weights_.embedding;
  share_linformer(options, weights_);
}

void Parameters::round() const {
  if (rounded_.present()) device_->run(Round{.out = rounded_, .in = flat_.rows(0, decayed_)});
}

void Parameters::upload(const void* numbers) const {
  device_->upload(flat_, numbers);
  round();
}

void Parameters::initialize(std::uint64_t seed) {
  const Buffer memory(flat_.bytes());
  flat_.dtype == DType::f32 ? draw(seed, reinterpret_cast<float*>(memory.data()))
                            : draw(seed, reinterpret_cast<double*>(memory.data()));
  upload(memory.data());
}

template <class T>
void Parameters::draw(std::uint64_t seed, T* next) const {
  for (std::size_t place = 0; place < list_.size(); ++place) {
    const Parameter& parameter = list_[place];
    const double deviation = deviations_[place];
    const bool ones = ends_with(parameter.name, "norm.weight");
    const RandomKey key{seed, RandomPurpose::initial_weight, hash_of(parameter.name)};
    for (std::int64_t i = 0; i < parameter.tensor.size(); ++i) {
      *next++ = parameter.tensor.rank == 1
                    ? static_cast<T>(ones ? 1 : 0)
                    : static_cast<T>(deviation * random_normal(key, static_cast<std::uint64_t>(i)));
    }
  }
}

std::int64_t count_parameters(const ModelOptions& options) {
  Weights weights;
  std::int64_t count = 0;
  for (const Slot& slot : slots_of(options, weights)) count += slot.size();
  return count;
}

}  // namespace longscan
