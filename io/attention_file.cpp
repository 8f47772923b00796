// Layer after layer, so that only one is in memory.
#include "io/attention_file.h"

#include "io/hdf5_output.h"

namespace longscan {

namespace {

constexpr std::int64_t kFormatVersion = 1;

void write_origin(hid_t file, const char* format, const std::string& checkpoint,
                  std::int64_t step) {
  hdf5::write_attribute(file, "format", format);
  hdf5::write_attribute(file, "format_version", kFormatVersion);
  hdf5::write_attribute(file, "checkpoint", checkpoint);
  hdf5::write_attribute(file, "step", step);
}

void write_dataset(const Hdf5Output& output, const hdf5::Dataset& dataset, hid_t type,
                   const void* data) {
  output.write([&] {
    hdf5::write_all(dataset, type, data);
    hdf5::flush(dataset);
  });
}

void write_square(const Hdf5Output& output, const char* name, std::span<const double> values,
                  std::int64_t size) {
  require(std::ssize(values) == size * size, name, "[letters, letters]");
  const std::int64_t shape[] = {size, size};
  const hid_t type = hdf5::type_of<double>();
  write_dataset(output, hdf5::create_dataset(output.id(), name, type, shape), type, values.data());
}

}  // namespace

struct AttentionFile::Contents {
  Hdf5Output output;
  std::int64_t heads;
  std::int64_t tokens;
};

AttentionFile::AttentionFile(const std::filesystem::path& path, const AttendingRecord& record,
                             std::span<const std::int64_t> heads)
    : contents_(new Contents{.output = Hdf5Output(path, "the file of attention matrices"),
                             .heads = std::ssize(heads),
                             .tokens = std::ssize(record.tokens)}) {
  const hid_t file = contents_->output.id();
  contents_->output.write([&] {
    write_origin(file, "longscan attention", record.checkpoint, record.step);
    hdf5::write_attribute(file, "record", record.identifier);
    hdf5::write_attribute(file, "description", record.description);
    hdf5::write_attribute(file, "sequence", record.sequence);
    hdf5::write_vector<std::int32_t>(file, "tokens", record.tokens);
    hdf5::write_lines(file, "labels", record.labels);
    hdf5::write_vector<std::int64_t>(file, "heads", heads);
  });
}

AttentionFile::~AttentionFile() = default;

void AttentionFile::write_layer(std::int64_t layer, const std::string& kind,
                                const Tensor& matrices) {
  const std::int64_t shape[] = {contents_->heads, contents_->tokens, contents_->tokens};
  require_float("AttentionFile.matrices", matrices);
  require_operand("AttentionFile.matrices", matrices, matrices.dtype,
                  {shape[0], shape[1], shape[2]});
  const hid_t type =
      matrices.dtype == DType::f32 ? hdf5::type_of<float>() : hdf5::type_of<double>();
  const hdf5::Dataset dataset =
      hdf5::create_dataset(contents_->output.id(), fmt::format("layer_{}", layer), type, shape);
  hdf5::write_attribute(dataset.id(), "layer", layer);
  hdf5::write_attribute(dataset.id(), "kind", kind);
  write_dataset(contents_->output, dataset, type, matrices.data);
}

void AttentionFile::finish() {
  contents_->output.write([&] { hdf5::flush(contents_->output.file()); });
  contents_->output.publish();
}

void write_similarity(const std::filesystem::path& path, const SimilarityContents& contents) {
  Hdf5Output output(path, "the file of similarities");
  const auto size = std::ssize(contents.letters);
  output.write([&] {
    write_origin(output.id(), "longscan similarity", contents.checkpoint, contents.step);
    hdf5::write_attribute(output.id(), "records", contents.records);
    hdf5::write_text(output.id(), "letters", contents.letters);
  });
  write_square(output, "similarity", contents.similarity, size);
  write_square(output, "symmetrized", contents.symmetrized, size);
  write_square(output, "likeness", contents.likeness, size);
  write_square(output, "blosum62", contents.blosum62, size);
  output.write([&] { hdf5::flush(output.file()); });
  output.publish();
}

}  // namespace longscan
