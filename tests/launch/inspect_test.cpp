// `longscan inspect attention` and `longscan inspect similarity`: what is in their files.
#include <cmath>

#include "dist/thread_communicator.h"
#include "io/vocabulary.h"
#include "launch/blosum62.h"
#include "model/transformer.h"
#include "tests/support/inspect_case.h"

namespace longscan::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST_F(InspectTest, writes_the_attention_of_a_record) {
  train("run", "--set data.isolate_records=true " + std::string(kHybrid));
  const std::string told =
      succeed("inspect attention --checkpoint run --fasta two.fasta --out map");
  EXPECT_THAT(told,
              AllOf(HasSubstr("wrote map.h5: record 'first', 24 tokens, 4 attention matrices"),
                    HasSubstr("wrote map.png")));
  expect_picture("map.png", 600);

  const std::filesystem::path path = folder_ / "map.h5";
  EXPECT_EQ(attribute_of(path, "record"), "first");
  EXPECT_EQ(attribute_of(path, "description"), "made for a test");
  EXPECT_EQ(attribute_of(path, "sequence"), kFirst);
  EXPECT_EQ(attribute_of(path, "checkpoint"), "run/step-00000012.h5");
  EXPECT_EQ(attribute_of(path, "kind", "layer_0"), "favor_softmax");
  EXPECT_EQ(attribute_of(path, "kind", "layer_1"), "elu1");
  const hdf5::File file = hdf5::open_file(path.string());
  EXPECT_EQ(hdf5::read_integer_attribute(file.id(), "step"), 12);
  EXPECT_THAT(hdf5::read_vector<std::int64_t>(file.id(), "heads"), ElementsAre(0, 1));
  const std::vector<std::string> labels = hdf5::read_lines(file.id(), "labels");
  ASSERT_EQ(labels.size(), 24U);
  EXPECT_EQ(labels[0], "<begin>");
  EXPECT_EQ(labels[1], "M");
  EXPECT_EQ(labels[23], "V");

  for (const std::string layer : {"layer_0", "layer_1"}) {
    const Numbers matrices = numbers_in(path, layer);
    ASSERT_THAT(matrices.shape, ElementsAre(2, 24, 24));
    for (std::size_t row = 0; row < 2 * 24; ++row) {
      double sum = 0;
      for (std::size_t key = 0; key < 24; ++key) {
        const double share = matrices.values[row * 24 + key];
        EXPECT_GE(share, 0);
        if (key > row % 24) {
          EXPECT_EQ(share, 0) << row << ", " << key;
        }
        sum += share;
      }
      EXPECT_NEAR(sum, 1, 1e-5);
    }
  }
}

TEST_F(InspectTest, attention_is_that_of_the_model_with_the_features_it_was_trained_with) {
  train("run", kHybrid);
  succeed("inspect attention --checkpoint run --fasta two.fasta --out map --record second");
  const Vocabulary vocabulary = Vocabulary::protein();
  // Windows hold many records, so that one stands behind the end of another.
  std::vector<std::int32_t> tokens{vocabulary.end()};
  for (const char letter : kSecond) tokens.push_back(vocabulary.encode(letter));
  std::vector<std::int64_t> positions;
  for (std::size_t i = 0; i < tokens.size(); ++i) positions.push_back(std::ssize(positions));
  const std::int64_t start = 0;
  const AttentionOptions favor{
      .kind = AttentionKind::favor_softmax, .features = 16, .redraw_interval = 5};
  const ModelOptions options{.vocabulary = vocabulary.size(),
                             .width = 16,
                             .layers = 2,
                             .heads = 2,
                             .hidden = 24,
                             .layer_attention = {favor, {}}};
  run_ranks(1, [&](Communicator& group) {
    Device device = Device::cpu(1);
    Parameters parameters(options, device);
    read_checkpoint(folder_ / "run/step-00000012.h5", named_tensors(parameters.list()));
    Transformer transformer(options, device, group);
    transformer.draw_features(1, 12);
    const std::int64_t layers[] = {0, 1};
    transformer.attention_matrices(
        parameters.weights(),
        {.tokens = tokens, .targets = {}, .positions = positions, .document_starts = {&start, 1}},
        layers, {0, 2}, [&](std::int64_t layer, const Tensor& matrices) {
          const Numbers read = numbers_in(folder_ / "map.h5", "layer_" + std::to_string(layer));
          ASSERT_EQ(std::ssize(read.values), matrices.size());
          for (std::int64_t i = 0; i < matrices.size(); ++i) {
            ASSERT_NEAR(read.values[static_cast<std::size_t>(i)],
                        static_cast<double>(matrices.as<float>()[i]), 1e-6);
          }
        });
  });
}

TEST_F(InspectTest, chooses_records_layers_and_heads) {
  train("run", kHybrid);
  const std::string inspect =
      "inspect attention --checkpoint run/step-00000012.h5 --fasta two.fasta ";
  succeed(inspect + "--out all --record second");
  succeed(3, inspect + "--out one --record second --layer 1 --head 1");
  const Numbers all = numbers_in(folder_ / "all.h5", "layer_1");
  const Numbers one = numbers_in(folder_ / "one.h5", "layer_1");
  EXPECT_THAT(one.shape, ElementsAre(1, 24, 24));
  EXPECT_EQ(one.values, std::vector<double>(all.values.begin() + 24 * 24, all.values.end()));
  const hdf5::File file = hdf5::open_file((folder_ / "one.h5").string());
  EXPECT_THAT(hdf5::link_names(file.id()), ElementsAre("heads", "labels", "layer_1", "tokens"));
  EXPECT_THAT(hdf5::read_vector<std::int64_t>(file.id(), "heads"), ElementsAre(1));
  expect_picture("one.png", 400);
  // An identifier goes before a number.
  EXPECT_THAT(succeed(inspect + "--out number --record 2"), HasSubstr("record '2', 4 tokens"));
  EXPECT_THAT(succeed(inspect + "--out number --record 1 --overwrite"), HasSubstr("'first'"));
  EXPECT_THAT(succeed("inspect attention --checkpoint run --out piped --fasta - < two.fasta"),
              HasSubstr("'first'"));
}

TEST_F(InspectTest, models_of_masked_tokens_get_the_letters_and_their_end) {
  for (const std::string kind : {"softmax", "linformer", "identity", "favor_relu"}) {
    train_masked(kind,
                 "--set model.attention.projected_length=9 --max-steps 3 "
                 "--set model.attention.kind=" +
                     kind);
    succeed("inspect attention --checkpoint " + kind + " --fasta two.fasta --out map_" + kind);
    const std::filesystem::path path = folder_ / ("map_" + kind + ".h5");
    const hdf5::File file = hdf5::open_file(path.string());
    const std::vector<std::string> labels = hdf5::read_lines(file.id(), "labels");
    ASSERT_EQ(labels.size(), 24U);
    EXPECT_EQ(labels.front(), "M");
    EXPECT_EQ(labels.back(), "<end>");
    const Numbers matrices = numbers_in(path, "layer_0");
    double behind = 0;  // of the first token: it sees those that follow
    for (std::size_t key = 1; key < 24; ++key) behind += std::abs(matrices.values[key]);
    EXPECT_EQ(behind == 0, kind == "identity");
    EXPECT_EQ(attribute_of(path, "kind", "layer_1"), kind);
    expect_picture("map_" + kind + ".png", 600);
  }
}

/// What similarity is, from the matrices of `inspect attention`.
class DefinedSimilarity {
 public:
  void add(const std::filesystem::path& path, const std::string& letters, std::int64_t letters_at,
           bool causal) {
    for (const std::string layer : {"layer_0", "layer_1"}) {
      const Numbers matrices = numbers_in(path, layer);
      const std::int64_t tokens = matrices.shape[1];
      for (std::int64_t i = 0; i < matrices.shape[0] * tokens * tokens; ++i) {
        const std::int64_t query = i / tokens % tokens;
        const std::int64_t key = i % tokens;
        if (query == key || (causal && key > query)) continue;
        add_pair(letter_at(letters, query - letters_at), letter_at(letters, key - letters_at),
                 matrices.values[static_cast<std::size_t>(i)],
                 1.0 / static_cast<double>(causal ? query + 1 : tokens));
      }
    }
  }
  double at(std::size_t pair) const { return weights_[pair] / even_[pair]; }
  bool knows(std::size_t pair) const { return even_[pair] > 0; }

 private:
  static std::size_t letter_at(const std::string& letters, std::int64_t place) {
    if (place < 0 || place >= std::ssize(letters)) return std::string::npos;
    return kAminoAcids.find(letters[static_cast<std::size_t>(place)]);
  }
  void add_pair(std::size_t a, std::size_t b, double weight, double even) {
    if (a == std::string::npos || b == std::string::npos) return;
    weights_[a * 20 + b] += weight;
    even_[a * 20 + b] += even;
  }

  std::vector<double> weights_ = std::vector<double>(400);
  std::vector<double> even_ = std::vector<double>(400);
};

TEST_F(InspectTest, similarity_is_the_attention_of_all_records_by_pair_of_amino_acids) {
  train("causal", kHybrid);
  train_masked("masked", kHybrid);
  for (const std::string run : {"causal", "masked"}) {
    DefinedSimilarity defined;
    for (const std::string record : {"first", "second"}) {
      succeed("inspect attention --checkpoint " + run + " --fasta two.fasta --out " + run + record +
              " --record " + record);
      defined.add(folder_ / (run + record + ".h5"), record == "first" ? kFirst : kSecond,
                  run == "causal" ? 1 : 0, run == "causal");
    }
    const std::string similarity =
        "inspect similarity --checkpoint " + run + " --fasta two.fasta --records 2 --out " + run;
    const std::string told = succeed(similarity + "1");
    EXPECT_THAT(told, AllOf(HasSubstr("correlation with BLOSUM62"), HasSubstr("Pearson"),
                            HasSubstr("Spearman"), HasSubstr("wrote " + run + "1.h5: 2 records")));
    EXPECT_EQ(succeed(3, similarity + "3").substr(0, 100), told.substr(0, 100));
    for (const std::string ranks : {"1", "3"}) {
      const std::filesystem::path path = folder_ / (run + ranks + ".h5");
      expect_picture(run + ranks + ".png", 600);
      const Numbers numbers = numbers_in(path, "similarity");
      const Numbers both = numbers_in(path, "symmetrized");
      EXPECT_THAT(numbers.shape, ElementsAre(20, 20));
      for (std::size_t pair = 0; pair < 400; ++pair) {
        ASSERT_EQ(std::isnan(numbers.values[pair]), !defined.knows(pair)) << pair;
        if (!defined.knows(pair)) continue;
        EXPECT_NEAR(numbers.values[pair], defined.at(pair), 1e-5);
        const std::size_t mirrored = pair % 20 * 20 + pair / 20;
        EXPECT_EQ(both.values[pair], both.values[mirrored]);
        if (defined.knows(mirrored)) {
          EXPECT_NEAR(both.values[pair], (defined.at(pair) + defined.at(mirrored)) / 2, 1e-5);
        }
      }
      const Numbers likeness = numbers_in(path, "likeness");
      EXPECT_NEAR(likeness.values[0], 1, 1e-9);  // of A and A
      for (std::size_t pair = 0; pair < 400; ++pair) {
        EXPECT_FALSE(std::abs(likeness.values[pair]) > 1 + 1e-9) << pair;
      }
      EXPECT_EQ(numbers_in(path, "blosum62").values, blosum62_matrix());
      const hdf5::File file = hdf5::open_file(path.string());
      EXPECT_EQ(hdf5::read_text(file.id(), "letters"), kAminoAcids);
      EXPECT_EQ(hdf5::read_integer_attribute(file.id(), "records"), 2);
    }
  }
}

TEST_F(InspectTest, what_does_not_attend_has_no_correlation) {
  train("run", "--set model.attention.kind=identity --max-steps 2");
  EXPECT_THAT(succeed(2, "inspect similarity --checkpoint run --fasta two.fasta --out s"),
              AllOf(HasSubstr("  none"), Not(HasSubstr("nan")), HasSubstr("wrote s.png")));
}

TEST_F(InspectTest, similarity_leaves_out_what_is_too_long_and_says_so) {
  train("run", "--set model.positions=learned --set data.window=40");
  write_text(folder_ / "long.fasta",
             ">a\nMKVLAADEFYW\n>b\n" + std::string(40, 'A') + "\n>c\n\n>d\nMKVW\n");
  EXPECT_THAT(
      succeed("inspect similarity --checkpoint run --fasta long.fasta --out s"),
      AllOf(HasSubstr("1  records of more than 40 tokens left out"),
            HasSubstr("1  records without a letter left out"), HasSubstr("s.h5: 2 records")));
  expect_refused("inspect similarity --checkpoint run --fasta long.fasta --out t --longest 3", 65,
                 "long.fasta: there is no record in it that can be taken");
}

}  // namespace
}  // namespace longscan::test
