// What waits in a process's lanes.

#pragma once

#include "esp/datum.hpp"
#include "esp/term.hpp"

#include "node/seq_trace.hpp"

#include <boost/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

namespace esp::node {

// What travels with a datum besides its value. Most data have none. Immutable
// once shared.
struct envelope
    : boost::intrusive_ref_counter<envelope, boost::thread_safe_counter> {
  std::optional<term> call; // From of a coop:call/3: {Pid, Tag}
  std::optional<seq_token> token;
};
using envelope_ptr = boost::intrusive_ptr<const envelope>;

// Null of neither.
envelope_ptr envelope_of(std::optional<term> call,
                         std::optional<seq_token> token);

// Whether their tokens are the same one.
inline bool are_alike(const envelope_ptr& a, const envelope_ptr& b) {
  return (a ? a->token : std::nullopt) == (b ? b->token : std::nullopt);
}

enum class what : std::uint8_t {
  data,    // for the task
  barrier, // on `edge`; the value is {Caller, Ref}
  flush,   // a head's: start a barrier; the value is {Caller, Ref}
  last,    // nothing more comes on `edge`
  control, // a term that is never data: system messages, calls, ...
  exit,    // to a process that traps exits: {'EXIT', From, Reason}
  down,    // {'DOWN', Ref, process, PidOrName, Reason}
};

inline constexpr std::uint32_t no_edge = 0xFFFFFFFF;

// Messages that this thread has let go of: message_cache.cpp.
class message_cache {
public:
  static void* take(std::size_t size) {
    return near.size > 0 ? near.pop() : more(size);
  }
  static void put(void* p) noexcept {
    if (near.size > 0 && near.size < batch)
      near.push(p);
    else
      hand_on(p);
  }

  struct chain {
    struct free_message {
      free_message* next;
    };
    free_message* first = nullptr;
    unsigned size = 0;

    void push(void* p) noexcept {
      first = ::new (p) free_message{first};
      ++size;
    }
    void* pop() noexcept {
      --size;
      return std::exchange(first, first->next);
    }
  };
  static constexpr unsigned batch = 256;
  static constinit thread_local chain near;

private:
  static void* more(std::size_t size);
  static void hand_on(void* p) noexcept;
};

struct message {
  message* next = nullptr;
  what kind = what::data;
  bool urgent = false; // goes before the data that wait
  std::uint32_t edge = no_edge; // the receiver's number for where it came from
  std::uint32_t units = 0;      // of credit to give back
  std::uint32_t arrived = 0;    // ms; only where that matters: overload.hpp
  datum value;
  envelope_ptr env;

  message() = default;
  message(what k, datum&& v) : kind(k), value(std::move(v)) {}

#ifndef ESP_SANITIZED
  static void* operator new(std::size_t size) {
    return message_cache::take(size);
  }
  static void operator delete(void* p) noexcept { message_cache::put(p); }
#endif
};
using message_ptr = std::unique_ptr<message>;

// Singly linked, owning, first in first out. No lock of its own.
class message_list {
public:
  message_list() = default;
  message_list(message_list&& o) noexcept
      : head_(std::exchange(o.head_, nullptr)),
        tail_(std::exchange(o.tail_, nullptr)) {}
  message_list& operator=(message_list&& o) noexcept {
    if (this != &o) {
      clear();
      head_ = std::exchange(o.head_, nullptr);
      tail_ = std::exchange(o.tail_, nullptr);
    }
    return *this;
  }
  ~message_list() { clear(); }

  bool empty() const noexcept { return head_ == nullptr; }
  message* front() noexcept { return head_; }
  const message* front() const noexcept { return head_; }
  void push_back(message_ptr m) noexcept {
    message* const raw = m.release();
    raw->next = nullptr;
    (tail_ != nullptr ? tail_->next : head_) = raw;
    tail_ = raw;
  }
  // Null: before all.
  void insert_behind(message* before, message_ptr m) noexcept {
    message*& place = before != nullptr ? before->next : head_;
    message* const raw = m.release();
    raw->next = place;
    place = raw;
    if (raw->next == nullptr)
      tail_ = raw;
  }
  message_ptr pop_front() noexcept {
    message* const raw = head_;
    if (raw != nullptr) {
      head_ = raw->next;
      if (head_ == nullptr)
        tail_ = nullptr;
      raw->next = nullptr;
    }
    return message_ptr(raw);
  }
  void append(message_list&& o) noexcept {
    if (o.empty())
      return;
    (tail_ != nullptr ? tail_->next : head_) = o.head_;
    tail_ = o.tail_;
    o.head_ = o.tail_ = nullptr;
  }
  void prepend(message_list&& o) noexcept {
    o.append(std::move(*this));
    *this = std::move(o);
  }
  // Takes out the first that `matches` accepts.
  template <class Matches>
  message_ptr extract(Matches&& matches) {
    message* before = nullptr;
    for (message* m = head_; m != nullptr; before = m, m = m->next)
      if (matches(*m)) {
        (before != nullptr ? before->next : head_) = m->next;
        if (tail_ == m)
          tail_ = before;
        m->next = nullptr;
        return message_ptr(m);
      }
    return nullptr;
  }
  void clear() noexcept {
    while (pop_front()) {
    }
  }

private:
  message* head_ = nullptr;
  message* tail_ = nullptr;
};

} // namespace esp::node
