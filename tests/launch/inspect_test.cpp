// `longscan inspect attention` and `longscan inspect similarity`: what is in their files, and what
// they refuse.
#include <cmath>
#include <list>

#include "dist/thread_communicator.h"
#include "io/hdf5.h"
#include "io/vocabulary.h"
#include "launch/blosum62.h"
#include "model/transformer.h"
#include "tests/support/program.h"

namespace longscan::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const std::string kFirst = "MKVLAADEFYWHIKLMNPQRSTV";
const std::string kSecond = "ACDEFGHIKLMNPQRSTVWYXAC";

/// The numbers of a dataset, and its shape.
struct Numbers {
  std::vector<std::int64_t> shape;
  std::vector<double> values;
};

Numbers numbers_in(const std::filesystem::path& path, const std::string& dataset) {
  const hdf5::File file = hdf5::open_file(path.string());
  Numbers numbers{.shape = hdf5::shape_of(hdf5::open_dataset(file.id(), dataset)), .values = {}};
  numbers.values = hdf5::read_vector<double>(file.id(), dataset);
  return numbers;
}

std::string attribute_of(const std::filesystem::path& path, const std::string& name,
                         const std::string& dataset = "") {
  const hdf5::File file = hdf5::open_file(path.string());
  if (dataset.empty()) return hdf5::read_string_attribute(file.id(), name);
  return hdf5::read_string_attribute(hdf5::open_dataset(file.id(), dataset).id(), name);
}

class InspectTest : public ProgramTest {
 protected:
  void SetUp() override {
    make_corpus();
    write_text(folder_ / "two.fasta",
               ">first made for a test\n" + kFirst + "\n>second\n" + kSecond + "\n>2\nMKV\n");
  }

  /// A run of two layers, of which the second has another kind of attention.
  void train(const std::string& run, const std::string& options = "") {
    succeed("train --config small.textproto --set training.segment=0 --run " + run + " " + options);
  }
  /// Bidirectional, of masked tokens.
  void train_masked(const std::string& run, const std::string& options = "") {
    train(run, "--set model.causal=false --set training.objective=masked_token " + options);
  }

  static constexpr const char* kHybrid =
      "--set model.attention.kind=favor_softmax --set model.attention.features=16 "
      "--set model.attention.redraw_interval=5 "
      "--set 'model.layer_override=layers: 1 attention { kind: elu1 }'";

  void expect_refused(const std::string& arguments, int code, const std::string& message) {
    const Outcome outcome = longscan(arguments);
    EXPECT_EQ(outcome.code, code) << arguments << outcome.errors;
    EXPECT_THAT(outcome.errors, AllOf(HasSubstr("longscan: "), HasSubstr(message)));
  }

  /// A checkpoint with one parameter full of a number, in another folder.
  void write_with(const std::filesystem::path& checkpoint, const std::string& folder,
                  const std::string& name, float value) {
    std::vector<NamedTensor> tensors;
    std::list<std::vector<float>> memory;
    for (const StoredTensor& stored : list_parameters(checkpoint)) {
      const std::vector<std::int64_t>& shape = stored.shape;
      const std::int64_t columns = shape.size() == 1 ? 1 : shape[1];
      float* const values =
          memory.emplace_back(static_cast<std::size_t>(shape[0] * columns)).data();
      tensors.push_back(
          {stored.name, shape.size() == 1
                            ? Tensor::dense(values, DType::f32, {shape[0]})
                            : Tensor::dense(values, DType::f32, {shape[0], columns})});
    }
    read_checkpoint(checkpoint, tensors);
    for (const auto& [other, tensor] : tensors) {
      if (other == name) std::fill_n(tensor.as<float>(), tensor.size(), value);
    }
    std::filesystem::create_directories(folder_ / folder);
    write_checkpoint(folder_ / folder, {.header = read_checkpoint_header(checkpoint),
                                        .model = tensors,
                                        .first_moment = tensors,
                                        .second_moment = tensors});
  }

  /// Pixels of a PNG, from its header.
  void expect_picture(const std::string& name, std::int64_t least) {
    const std::string bytes = contents_of(folder_ / name);
    ASSERT_GT(bytes.size(), 33U) << name;
    EXPECT_EQ(bytes.substr(0, 8), "\x89PNG\r\n\x1a\n");
    EXPECT_EQ(bytes.substr(12, 4), "IHDR");
    for (const std::size_t place : {16, 20}) {
      std::int64_t pixels = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        pixels = 256 * pixels + static_cast<unsigned char>(bytes[place + i]);
      }
      EXPECT_GE(pixels, least) << name;
      EXPECT_LE(pixels, 4000) << name;
    }
    EXPECT_FALSE(std::filesystem::exists(folder_ / (name + ".partial")));
  }
};

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

TEST_F(InspectTest, refuses_what_is_not_there) {
  train("run");
  const std::string inspect = "inspect attention --checkpoint run --fasta two.fasta --out map ";
  expect_refused(inspect + "--record third", 64, "--record: there is no record 'third'");
  expect_refused(inspect + "--record 4", 64, "two.fasta has 3 records");
  expect_refused(inspect + "--layer 2", 64, "--layer: there is no layer 2, the model has 0 to 1");
  expect_refused(inspect + "--head 2", 64, "--head: there is no head 2");
  expect_refused(inspect + "--head -1", 64, "--head: there is no head -1");
  expect_refused("inspect attention --checkpoint run --fasta no.fasta --out map", 66, "no.fasta");
  expect_refused("inspect attention --checkpoint no --fasta two.fasta --out map", 66, "no");
  expect_refused("inspect attention --checkpoint run --fasta two.fasta --out no/map", 74,
                 "no/map.h5");
  expect_refused("inspect attention --checkpoint run --fasta two.fasta --out ./", 64, "--out");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "map.h5"));
}

TEST_F(InspectTest, refuses_records_that_the_model_cannot_take) {
  train("run", "--set model.positions=learned --set data.window=40");
  const auto refuse = [&](const std::string& fasta, const std::string& options,
                          const std::string& message) {
    write_text(folder_ / "in.fasta", fasta);
    expect_refused("inspect attention --checkpoint run --fasta in.fasta --out map " + options, 65,
                   message);
  };
  refuse("", "", "in.fasta: there is no record in it");
  refuse(">a\n\n>b\nMKV\n", "", "in.fasta:1: the record 'a' has no letters");
  refuse(">a\nMK4\n", "", "in.fasta:2:3: letter '4' is no amino acid");
  refuse(">a\n" + std::string(40, 'A'), "",
         "in.fasta:1: the record 'a' makes 41 tokens, the model takes documents of at most 40");
  refuse(">a\nMKVMKV", "--longest 6", "at most 6 are taken, since a matrix has their square");
  // Only the letters of the record itself matter.
  refuse(">a\nMK4\n>b\nMKV\n>c\nM-K\n", "--record 3", "in.fasta:6:2: letter '-'");
  succeed("inspect attention --checkpoint run --fasta in.fasta --out b --record 2");
  EXPECT_EQ(attribute_of(folder_ / "b.h5", "sequence"), "MKV");
  write_text(folder_ / "in.fasta", ">a\nMK4" + std::string(36, 'A'));
  succeed("inspect attention --checkpoint run --fasta in.fasta --out map --unknown map");
  EXPECT_EQ(attribute_of(folder_ / "map.h5", "sequence").substr(0, 4), "MKXA");
}

TEST_F(InspectTest, says_how_to_take_less_memory) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need more memory than is there";
#endif
  train("run", "--max-steps 2");
  write_text(folder_ / "long.fasta", ">long\n" + std::string(24'000, 'M'));
  for (const std::string form : {"attention", "similarity"}) {
    const Outcome outcome =
        shell("ulimit -v 3500000; " + program() + " inspect " + form +
              " --checkpoint run --fasta long.fasta --out map --longest 30000 --threads 1");
    EXPECT_EQ(outcome.code, 70) << form;
    EXPECT_THAT(outcome.errors,
                AllOf(HasSubstr("not enough memory, the matrices of 24,001 tokens and 2 heads take "
                                "4.3 GiB"),
                      HasSubstr("a smaller --longest or one --head")))
        << form;
  }
}

TEST_F(InspectTest, says_that_a_checkpoint_has_diverged) {
  train("run", "--max-steps 2");
  const std::filesystem::path path = folder_ / "run/step-00000002.h5";
  // Infinite scores come of large parameters, too.
  for (const auto& [value, message] : {std::pair{NAN, "a number of its parameters is nan"},
                                       {1e30F, "a number of layer 0's attention is "}}) {
    write_with(path, "bad", "layers.0.attention.norm.weight", value);
    for (const std::string form : {"attention", "similarity"}) {
      const std::string inspect =
          "inspect " + form + " --checkpoint bad --fasta two.fasta --out map";
      expect_refused(inspect, 65, message);
      expect_refused(inspect, 65, "the checkpoint may come from a diverged run");
    }
  }
  EXPECT_FALSE(std::filesystem::exists(folder_ / "map.h5"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "map.png"));
}

TEST_F(InspectTest, models_of_bytes_have_attention_and_no_similarity) {
  write_text(folder_ / "book.txt", std::string(2000, 'a'));
  succeed("pack book.txt --out book.h5");
  train("book", "--data book.h5 --max-steps 2");
  succeed("inspect attention --checkpoint book --fasta two.fasta --out map");
  expect_refused("inspect similarity --checkpoint book --fasta two.fasta --out s", 64,
                 "the checkpoint's vocabulary is 'bytes'");
}

TEST_F(InspectTest, replaces_files_only_when_told_to) {
  train("run", "--max-steps 2");
  for (const std::string form : {"attention", "similarity"}) {
    const std::string inspect =
        "inspect " + form + " --checkpoint run --fasta two.fasta --out " + form;
    write_text(folder_ / (form + ".png"), "mine");
    expect_refused(inspect, 64, form + ".png: the file exists already, --overwrite replaces it");
    EXPECT_FALSE(std::filesystem::exists(folder_ / (form + ".h5")));
    EXPECT_EQ(contents_of(folder_ / (form + ".png")), "mine");
    succeed(inspect + " --overwrite");
    expect_picture(form + ".png", 400);
    expect_refused(inspect, 64, form + ".h5: the file exists already");
  }
}

TEST_F(InspectTest, looks_at_its_output_before_anything_else) {
  std::filesystem::create_directories(folder_ / "folder.png");
  for (const std::string form : {"attention", "similarity"}) {
    const std::string inspect = "inspect " + form + " --checkpoint no --fasta no.fasta --out ";
    expect_refused(inspect + "no/s", 74, "no/s.h5: the file cannot be made");
    expect_refused(inspect + "folder --overwrite", 64, "folder.png: there is a folder");
    expect_refused(inspect + "s", 66, "no");
    write_text(folder_ / "old.h5", "mine");
    expect_refused(inspect + "old", 64, "old.h5: the file exists already");
    expect_refused(inspect + "old --overwrite", 66, "no");
    EXPECT_EQ(contents_of(folder_ / "old.h5"), "mine");
  }
  for (const std::string left : {"s.h5", "s.h5.partial", "s.png", "s.png.partial"}) {
    EXPECT_FALSE(std::filesystem::exists(folder_ / left)) << left;
  }
}

TEST_F(InspectTest, without_gnuplot_the_numbers_are_there) {
  train("run", "--max-steps 2");
  const auto inspect = [&](const std::string& path, const std::string& out) {
    // Open MPI looks for its helpers in the path, unless a process is on its own.
    return shell("OMPI_MCA_ess_singleton_isolated=1 PATH=" + path + " " + program() +
                 " inspect attention --checkpoint run --fasta two.fasta --out " + out);
  };
  const Outcome none = inspect("/nowhere", "none");
  EXPECT_EQ(none.code, 66) << none.errors;
  EXPECT_THAT(none.errors, AllOf(HasSubstr("none.png: the picture cannot be drawn"),
                                 HasSubstr("install the package gnuplot-nox")));
  EXPECT_THAT(numbers_in(folder_ / "none.h5", "layer_0").shape, ElementsAre(2, 24, 24));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "none.png"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "none.png.partial"));

  write_text(folder_ / "fake/gnuplot", "#!/bin/sh\necho 'no such terminal' >&2\nexit 3\n");
  std::filesystem::permissions(folder_ / "fake/gnuplot", std::filesystem::perms::owner_all);
  const Outcome fails = inspect("fake", "fails");
  EXPECT_EQ(fails.code, 74) << fails.errors;
  EXPECT_THAT(fails.errors, HasSubstr("no such terminal"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "fails.png"));
}

TEST_F(InspectTest, what_a_user_has_told_gnuplot_changes_no_picture) {
  train("run", "--max-steps 2");
  write_text(folder_ / "home/.gnuplot", "set label 'mine' at screen 0.5, 0.5 front\n");
  for (const std::string home : {"nobody", "home"}) {
    const Outcome outcome =
        shell("HOME=$PWD/" + home + " " + program() +
              " inspect attention --checkpoint run --fasta two.fasta --out " + home + "_map");
    ASSERT_EQ(outcome.code, 0) << outcome.errors;
  }
  expect_picture("home_map.png", 400);
  EXPECT_EQ(contents_of(folder_ / "home_map.png"), contents_of(folder_ / "nobody_map.png"));
}

TEST_F(InspectTest, a_path_and_a_form_exclude_each_other) {
  train("run", "--max-steps 2");
  EXPECT_THAT(succeed("inspect run"), HasSubstr("step 2, "));
  EXPECT_THAT(succeed("inspect store.h5"), HasSubstr("a token store"));
  expect_refused("inspect", 64, "path, attention or similarity is required");
  expect_refused("inspect run attention --checkpoint run --fasta two.fasta --out map", 64, "path");
  expect_refused("inspect attention", 64, "`longscan inspect attention --help` tells the options");
  expect_refused("inspect attention --checkpoint run --fasta two.fasta --out m --recrd 3", 64,
                 "did you mean '--record'?");
  EXPECT_THAT(succeed("inspect --help"), AllOf(HasSubstr("attention"), HasSubstr("similarity")));
  EXPECT_THAT(succeed("inspect attention --help"),
              AllOf(HasSubstr("--record"), HasSubstr("linformer")));
}

}  // namespace
}  // namespace longscan::test
