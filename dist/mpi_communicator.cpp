// Collectives over MPI. Sums are put together from gathers and local additions in rank order, since
// MPI_Allreduce promises neither an order nor the same bits on all ranks.
#include "dist/mpi_communicator.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>
#include <vector>

#include "dist/mpi_check.h"
#include "dist/sum_in_rank_order.h"

namespace longscan {

namespace {

// Up to this many bytes one gather of everything is faster than an exchange of parts and a second
// gather.
constexpr std::int64_t kSmallSum = 4096;

// Of messages between neighbours. One tag is enough: those of a pair arrive in the order in which
// they were started.
constexpr int kShiftTag = 1;

/// `bytes` bytes as MPI counts them: an int of MPI_BYTE, or one element of a type of that size.
class Message {
 public:
  Message(std::int64_t bytes, std::int64_t largest_count) {
    if (bytes <= largest_count) {
      count_ = static_cast<int>(bytes);
      return;
    }
    const std::int64_t blocks = bytes / largest_count;
    MPI_Datatype block = MPI_DATATYPE_NULL;
    MPI_CHECK(MPI_Type_contiguous(static_cast<int>(largest_count), MPI_BYTE, &block));
    const int lengths[] = {static_cast<int>(blocks), static_cast<int>(bytes % largest_count)};
    const MPI_Aint offsets[] = {0, static_cast<MPI_Aint>(blocks * largest_count)};
    const MPI_Datatype types[] = {block, MPI_BYTE};
    MPI_CHECK(MPI_Type_create_struct(2, lengths, offsets, types, &type_));
    MPI_CHECK(MPI_Type_free(&block));
    MPI_CHECK(MPI_Type_commit(&type_));
    count_ = 1;
  }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;
  // MPI keeps the type until the messages that use it are through.
  ~Message() {
    if (type_ != MPI_BYTE) MPI_Type_free(&type_);
  }

  int count() const { return count_; }
  MPI_Datatype type() const { return type_; }

 private:
  int count_ = 0;
  MPI_Datatype type_ = MPI_BYTE;
};

}  // namespace

class MpiCommunicator::Requests final : public Pending {
 public:
  explicit Requests(MpiCommunicator& owner) : owner_(owner) {}

  /// For the call that starts something.
  MPI_Request* next() { return &requests_.at(count_++); }

  void wait() override {
    const Timed timed(owner_.traffic_);
    MPI_CHECK(MPI_Waitall(static_cast<int>(count_), requests_.data(), MPI_STATUSES_IGNORE));
  }

 private:
  MpiCommunicator& owner_;
  std::array<MPI_Request, 2> requests_{MPI_REQUEST_NULL, MPI_REQUEST_NULL};
  std::size_t count_ = 0;
};

MpiCommunicator::MpiCommunicator(MPI_Comm parent, std::int64_t largest_count)
    : largest_count_(largest_count) {
  MPI_CHECK(MPI_Comm_dup(parent, &comm_));
  MPI_CHECK(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
  MPI_CHECK(MPI_Comm_rank(comm_, &rank_));
  MPI_CHECK(MPI_Comm_size(comm_, &size_));
}

MpiCommunicator::~MpiCommunicator() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (!finalized) MPI_Comm_free(&comm_);
}

std::unique_ptr<Pending> MpiCommunicator::start_all_gather(const void* mine, void* all,
                                                           std::int64_t bytes) {
  const Timed timed(traffic_);
  count_call(bytes);
  const Message message(bytes, largest_count_);
  auto requests = std::make_unique<Requests>(*this);
  MPI_CHECK(MPI_Iallgather(mine, message.count(), message.type(), all, message.count(),
                           message.type(), comm_, requests->next()));
  return requests;
}

std::unique_ptr<Pending> MpiCommunicator::start_shift(const void* mine, std::int64_t mine_bytes,
                                                      void* theirs, std::int64_t theirs_bytes,
                                                      bool towards_first) {
  const Timed timed(traffic_);
  const int step = towards_first ? -1 : 1;
  const auto neighbour = [&](int rank) { return rank >= 0 && rank < size_ ? rank : MPI_PROC_NULL; };
  const int to = neighbour(rank_ + step);
  const int from = neighbour(rank_ - step);
  count_call(to == MPI_PROC_NULL ? 0 : mine_bytes);
  auto requests = std::make_unique<Requests>(*this);
  const Message incoming(theirs_bytes, largest_count_);
  const Message outgoing(mine_bytes, largest_count_);
  MPI_CHECK(MPI_Irecv(theirs, incoming.count(), incoming.type(), from, kShiftTag, comm_,
                      requests->next()));
  MPI_CHECK(
      MPI_Isend(mine, outgoing.count(), outgoing.type(), to, kShiftTag, comm_, requests->next()));
  return requests;
}

void MpiCommunicator::broadcast(void* data, std::int64_t bytes, int root) {
  const Timed timed(traffic_);
  count_call(rank_ == root ? bytes : 0);
  const Message message(bytes, largest_count_);
  MPI_CHECK(MPI_Bcast(data, message.count(), message.type(), root, comm_));
}

void MpiCommunicator::barrier() {
  const Timed timed(traffic_);
  count_call(0);
  MPI_CHECK(MPI_Barrier(comm_));
}

std::unique_ptr<Communicator> MpiCommunicator::split(int color) {
  MPI_Comm part = MPI_COMM_NULL;
  MPI_CHECK(MPI_Comm_split(comm_, color, rank_, &part));
  auto communicator = std::make_unique<MpiCommunicator>(part, largest_count_);
  MPI_CHECK(MPI_Comm_free(&part));
  return communicator;
}

NodePlace MpiCommunicator::place_on_node() const {
  MPI_Comm node = MPI_COMM_NULL;
  MPI_CHECK(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node));
  NodePlace place;
  MPI_CHECK(MPI_Comm_rank(node, &place.rank));
  MPI_CHECK(MPI_Comm_size(node, &place.size));
  MPI_CHECK(MPI_Comm_free(&node));
  return place;
}

bool MpiCommunicator::all_arrive(double seconds) const {
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_CHECK(MPI_Ibarrier(comm_, &request));
  const double end = MPI_Wtime() + seconds;
  int arrived = 0;
  do {
    MPI_CHECK(MPI_Test(&request, &arrived, MPI_STATUS_IGNORE));
    if (!arrived) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  } while (!arrived && MPI_Wtime() < end);
  return arrived != 0;
}

void MpiCommunicator::sum_piece(const Tensor& piece) {
  if (size_ == 1) return;
  if (piece.bytes() <= kSmallSum) return sum_small(piece);
  sum_by_parts(piece);
}

void MpiCommunicator::sum_small(const Tensor& piece) {
  const auto bytes = static_cast<int>(piece.bytes());
  if (scratch_.bytes() < size_ * piece.bytes()) scratch_ = Buffer(size_ * piece.bytes());
  MPI_CHECK(MPI_Allgather(piece.data, bytes, MPI_BYTE, scratch_.data(), bytes, MPI_BYTE, comm_));
  sum_in_rank_order(piece, size_, [&](int rank) { return scratch_.data() + rank * bytes; });
}

// Each rank adds up one part of the piece and gives it to the others.
void MpiCommunicator::sum_by_parts(const Tensor& piece) {
  const auto bytes_of = [&](std::int64_t elements) {
    return static_cast<int>(elements * size_of(piece.dtype));
  };
  std::vector<int> offsets(static_cast<std::size_t>(size_) + 1);
  std::vector<int> lengths(static_cast<std::size_t>(size_));
  for (std::size_t rank = 0; rank < lengths.size(); ++rank) {
    offsets[rank + 1] = bytes_of(piece.size() * (static_cast<std::int64_t>(rank) + 1) / size_);
    lengths[rank] = offsets[rank + 1] - offsets[rank];
  }
  const auto me = static_cast<std::size_t>(rank_);
  const std::vector<int> my_lengths(lengths.size(), lengths[me]);
  std::vector<int> my_offsets(lengths.size());
  for (int rank = 0; rank < size_; ++rank) {
    my_offsets[static_cast<std::size_t>(rank)] = rank * lengths[me];
  }
  const std::int64_t gathered = std::int64_t{size_} * lengths[me];
  if (scratch_.bytes() < gathered) scratch_ = Buffer(gathered);

  MPI_CHECK(MPI_Alltoallv(piece.data, lengths.data(), offsets.data(), MPI_BYTE, scratch_.data(),
                          my_lengths.data(), my_offsets.data(), MPI_BYTE, comm_));
  const std::int64_t element = size_of(piece.dtype);
  sum_in_rank_order(piece.rows(offsets[me] / element, offsets[me + 1] / element), size_,
                    [&](int rank) { return scratch_.data() + rank * lengths[me]; });
  MPI_CHECK(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, piece.data, lengths.data(),
                           offsets.data(), MPI_BYTE, comm_));
}

}  // namespace longscan
