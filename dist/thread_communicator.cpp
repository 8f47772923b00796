// Every collective is one round: each rank posts a copy of its part, waits until all parts are
// there, and reads them. No rank ever touches another's memory, so one that fails harms nobody.
#include "dist/thread_communicator.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "dist/sum_in_rank_order.h"
#include "kernels/error.h"

namespace longscan {

namespace {

using Bytes = std::vector<std::byte>;

/// What the ranks of a group have handed to one collective.
struct Round {
  explicit Round(std::size_t ranks) : parts(ranks), readers(ranks) {}
  std::vector<std::optional<Bytes>> parts;
  std::size_t posted = 0;
  std::size_t readers;  ///< ranks that have not read it to the end
};

/// The ranks of one communicator, as ranks of the world, and their rounds by number.
struct Group {
  explicit Group(std::vector<int> ranks) : members(std::move(ranks)) {}
  std::vector<int> members;
  std::map<std::int64_t, Round> rounds;
};

/// All that the threads of one `run_ranks` share.
class World {
 public:
  explicit World(int ranks) : gone_(static_cast<std::size_t>(ranks)) {
    std::vector<int> members(static_cast<std::size_t>(ranks));
    std::iota(members.begin(), members.end(), 0);
    root_ = &groups_.try_emplace({nullptr, 0, 0}, std::move(members)).first->second;
  }

  Group& root() { return *root_; }

  /// The group that a split of `parent`, its `round`-th collective, makes of those who named
  /// `color`. Whoever comes first makes it.
  Group& child(const Group& parent, std::int64_t round, int color,
               const std::vector<int>& members) {
    const std::lock_guard lock(mutex_);
    return groups_.try_emplace({&parent, round, color}, members).first->second;
  }

  void post(Group& group, std::int64_t number, int rank, Bytes part) {
    const std::lock_guard lock(mutex_);
    Round& round = group.rounds.try_emplace(number, group.members.size()).first->second;
    round.parts[static_cast<std::size_t>(rank)] = std::move(part);
    if (++round.posted == round.parts.size()) changed_.notify_all();
  }

  /// Returns when all parts of the round are there. The parts stay until every rank has called
  /// `release`.
  const Round& collect(Group& group, std::int64_t number) {
    std::unique_lock lock(mutex_);
    Round& round = group.rounds.at(number);
    changed_.wait(lock, [&] {
      return round.posted == round.parts.size() || failure_ || missing(group, round) >= 0;
    });
    if (round.posted == round.parts.size()) return round;
    throw Error(ErrorKind::internal,
                {.what = "a collective cannot complete",
                 .why = failure_ ? std::string("another rank has failed")
                                 : fmt::format("rank {} has returned", missing(group, round))});
  }

  void release(Group& group, std::int64_t number) {
    const std::lock_guard lock(mutex_);
    if (--group.rounds.at(number).readers == 0) group.rounds.erase(number);
  }

  /// `rank` takes part in nothing more; `failure` is what it threw, if it did.
  void leave(int rank, std::exception_ptr failure) {
    const std::lock_guard lock(mutex_);
    gone_[static_cast<std::size_t>(rank)] = true;
    if (!failure_) failure_ = std::move(failure);
    changed_.notify_all();
  }

  std::exception_ptr failure() const { return failure_; }

 private:
  using GroupKey = std::tuple<const Group*, std::int64_t, int>;

  /// A rank of the world that has gone without posting its part, or -1.
  int missing(const Group& group, const Round& round) const {
    for (std::size_t i = 0; i < round.parts.size(); ++i) {
      if (!round.parts[i] && gone_[static_cast<std::size_t>(group.members[i])]) {
        return group.members[i];
      }
    }
    return -1;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<GroupKey, Group> groups_;
  Group* root_ = nullptr;
  std::vector<bool> gone_;
  std::exception_ptr failure_;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(World& world, Group& group, int rank)
      : world_(world), group_(group), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(group_.members.size()); }

  std::unique_ptr<Pending> start_all_gather(const void* mine, void* all,
                                            std::int64_t bytes) override {
    const Timed timed(traffic_);
    count_call(bytes);
    return std::make_unique<Gather>(*this, post(mine, bytes), static_cast<std::byte*>(all), bytes);
  }

  std::unique_ptr<Pending> start_shift(const void* mine, std::int64_t mine_bytes, void* theirs,
                                       std::int64_t theirs_bytes, bool towards_first) override {
    const Timed timed(traffic_);
    const int to = rank_ + (towards_first ? -1 : 1);
    const int from = rank_ - (towards_first ? -1 : 1);
    const auto is_there = [&](int rank) { return rank >= 0 && rank < size(); };
    const std::int64_t sent = is_there(to) ? mine_bytes : 0;
    count_call(sent);
    return std::make_unique<Shift>(*this, post(mine, sent), static_cast<std::byte*>(theirs),
                                   theirs_bytes, is_there(from) ? from : -1);
  }

  void broadcast(void* data, std::int64_t bytes, int root) override {
    const Timed timed(traffic_);
    count_call(rank_ == root ? bytes : 0);
    read(post(data, rank_ == root ? bytes : 0), [&](const Round& round) {
      const Bytes& part = *round.parts.at(static_cast<std::size_t>(root));
      require_bytes(part, bytes, root);
      std::copy(part.begin(), part.end(), static_cast<std::byte*>(data));
    });
  }

  void barrier() override {
    const Timed timed(traffic_);
    count_call(0);
    read(post(nullptr, 0), [](const Round&) {});
  }

  std::unique_ptr<Communicator> split(int color) override {
    const std::int64_t number = post(&color, sizeof(color));
    std::vector<int> members;
    int rank_there = 0;
    read(number, [&](const Round& round) {
      for (int rank = 0; rank < size(); ++rank) {
        const auto index = static_cast<std::size_t>(rank);
        int other = 0;
        std::memcpy(&other, round.parts[index]->data(), sizeof(other));
        if (other != color) continue;
        if (rank == rank_) rank_there = static_cast<int>(members.size());
        members.push_back(group_.members[index]);
      }
    });
    Group& child = world_.child(group_, number, color, members);
    return std::make_unique<ThreadCommunicator>(world_, child, rank_there);
  }

 protected:
  void sum_piece(const Tensor& piece) override {
    read(post(piece.data, piece.bytes()), [&](const Round& round) {
      sum_in_rank_order(piece, size(), [&](int rank) {
        const Bytes& part = *round.parts[static_cast<std::size_t>(rank)];
        require_bytes(part, piece.bytes(), rank);
        return part.data();
      });
    });
  }

 private:
  class Gather final : public Pending {
   public:
    Gather(ThreadCommunicator& owner, std::int64_t number, std::byte* all, std::int64_t bytes)
        : owner_(owner), number_(number), all_(all), bytes_(bytes) {}

    void wait() override {
      const Timed timed(owner_.traffic_);
      owner_.read(number_, [&](const Round& round) {
        for (int rank = 0; rank < owner_.size(); ++rank) {
          const Bytes& part = *round.parts[static_cast<std::size_t>(rank)];
          require_bytes(part, bytes_, rank);
          std::copy(part.begin(), part.end(), all_ + rank * bytes_);
        }
      });
    }

   private:
    ThreadCommunicator& owner_;
    std::int64_t number_;
    std::byte* all_;
    std::int64_t bytes_;
  };

  class Shift final : public Pending {
   public:
    /// from: -1 where nothing comes.
    Shift(ThreadCommunicator& owner, std::int64_t number, std::byte* theirs, std::int64_t bytes,
          int from)
        : owner_(owner), number_(number), theirs_(theirs), bytes_(bytes), from_(from) {}

    void wait() override {
      const Timed timed(owner_.traffic_);
      owner_.read(number_, [&](const Round& round) {
        if (from_ < 0) return;
        const Bytes& part = *round.parts[static_cast<std::size_t>(from_)];
        require_bytes(part, bytes_, from_);
        std::copy(part.begin(), part.end(), theirs_);
      });
    }

   private:
    ThreadCommunicator& owner_;
    std::int64_t number_;
    std::byte* theirs_;
    std::int64_t bytes_;
    int from_;
  };

  std::int64_t post(const void* data, std::int64_t bytes) {
    const auto* begin = static_cast<const std::byte*>(data);
    world_.post(group_, next_round_, rank_, Bytes(begin, begin + bytes));
    return next_round_++;
  }

  template <class Reader>
  void read(std::int64_t number, const Reader& reader) {
    reader(world_.collect(group_, number));
    world_.release(group_, number);
  }

  static void require_bytes(const Bytes& part, std::int64_t bytes, int rank) {
    if (std::ssize(part) == bytes) return;
    throw Error(
        ErrorKind::internal,
        {.what = fmt::format("rank {} has handed {} bytes to a collective", rank, part.size()),
         .why = fmt::format("this rank expects {}", bytes)});
  }

  World& world_;
  Group& group_;
  int rank_;
  std::int64_t next_round_ = 0;
};

}  // namespace

void run_ranks(int ranks, const std::function<void(Communicator&)>& body) {
  require(ranks >= 1, "run_ranks.ranks", "is at least one");
  World world(ranks);
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&world, &body, rank] {
        std::exception_ptr failure;
        try {
          ThreadCommunicator communicator(world, world.root(), rank);
          body(communicator);
        } catch (...) {
          failure = std::current_exception();
        }
        world.leave(rank, std::move(failure));
      });
    }
  }
  if (world.failure()) std::rethrow_exception(world.failure());
}

}  // namespace longscan
