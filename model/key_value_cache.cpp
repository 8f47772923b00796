// Room for keys and values, twice as much each time that it runs out.
#include "model/key_value_cache.h"

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/elementwise.h"

namespace longscan {

namespace {
constexpr std::int64_t kFewestTokens = 256;
}  // namespace

void KeyValueCache::append(const Pass& pass, const AttentionHeads& heads) {
  require(!pass.line.key_mask.present(), "KeyValueCache.append",
          "takes tokens that are attended to");
  const std::int64_t end = count_ + pass.tokens();
  reserve(pass.device, end, heads);
  for (const auto& [out, in] :
       {std::pair{key_, heads.key}, {value_, heads.value}, {document_, pass.line.document}}) {
    pass.device.run(Copy{.out = out.rows(count_, end), .in = in});
  }
  count_ = end;
}

SoftmaxKeys KeyValueCache::keys() const {
  return {.key = key_.rows(0, count_),
          .value = value_.rows(0, count_),
          .block = {.first_token = 0, .document = document_.rows(0, count_)}};
}

void KeyValueCache::reserve(Device& device, std::int64_t tokens, const AttentionHeads& like) {
  if (key_.present() && tokens <= key_.shape[0]) return;
  const std::int64_t capacity = std::max({kFewestTokens, tokens, 2 * count_});
  const std::int64_t heads = like.key.shape[1];
  const std::int64_t dim = like.key.shape[2];
  const DType dtype = like.key.dtype;
  const std::int64_t bytes = capacity * heads * dim * size_of(dtype);
  Buffer memory = device.allocate(2 * bytes + capacity * size_of(DType::i64));
  const std::array now{Tensor::dense(memory.data(), dtype, {capacity, heads, dim}),
                       Tensor::dense(memory.data() + bytes, dtype, {capacity, heads, dim}),
                       Tensor::dense(memory.data() + 2 * bytes, DType::i64, {capacity})};
  const std::array before{&key_, &value_, &document_};
  for (std::size_t i = 0; i < now.size(); ++i) {
    if (count_ > 0)
      device.run(Copy{.out = now[i].rows(0, count_), .in = before[i]->rows(0, count_)});
    *before[i] = now[i];
  }
  memory_ = std::move(memory);
}

}  // namespace longscan
