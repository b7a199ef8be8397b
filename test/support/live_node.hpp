// A node of ours inside the test, and bodies run on its processes' fibers.

#pragma once

#include "esp/process.hpp"

#include "node/node.hpp"
#include "node/spawned.hpp"
#include "support/erlang.hpp"

#include <chrono>
#include <exception>
#include <future>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace test {

inline esp::node::node_options options_of(const std::string& name,
                                          const epmd_daemon& epmd) {
  esp::node::node_options o;
  o.peers.node_name = name;
  o.peers.cookie = "cookie";
  o.peers.epmd_address = "127.0.0.1";
  o.peers.epmd_port = epmd.port();
  o.workers.workers = 2;
  return o;
}

// Runs `body` on a process of its own, and gives what it returned or threw.
template <class F>
auto on_process(esp::node::node& home, F body) {
  using result = std::invoke_result_t<F>;
  const auto done = std::make_shared<std::promise<result>>();
  auto future = done->get_future();
  home.spawn<esp::node::spawned_process>([done, body = std::move(body)] {
        try {
          if constexpr (std::is_void_v<result>) {
            body();
            done->set_value();
          } else {
            done->set_value(body());
          }
        } catch (...) {
          done->set_exception(std::current_exception());
        }
      })
      ->kick();
  if (future.wait_for(patience) != std::future_status::ready)
    throw std::runtime_error("a process did not come to its end");
  return future.get();
}

// Looks again and again, on a process's fiber; for what no message announces.
template <class F>
void await(F&& f) {
  const auto until = std::chrono::steady_clock::now() + patience;
  while (!f()) {
    if (std::chrono::steady_clock::now() > until)
      throw std::runtime_error("waited in vain");
    esp::sleep(std::chrono::milliseconds(1));
  }
}

// Evaluated by the `oracle` of that node, on a process of ours: {ok, Value} or
// {Class, Reason}.
inline esp::term eval(const std::string& at, const std::string& text) {
  const esp::ref tag = esp::make_ref();
  esp::send(std::pair(esp::atom("oracle"), esp::atom(at)),
            esp::term::tuple({esp::atom("eval"), esp::self(), tag,
                              esp::term::string(text)}));
  const auto got = esp::receive(
      [&tag](const esp::term& m) {
        return m.arity() == 2 && m.element(0).as_ref() == tag;
      },
      patience);
  if (!got)
    throw std::runtime_error("no answer to " + text);
  return got->element(1);
}

// As ~tp would print it.
inline std::string eval_on(esp::node::node& home, const std::string& at,
                           const std::string& text) {
  return on_process(home, [&] { return eval(at, text).to_string(); });
}

// The next message, whatever it is.
inline esp::term next(std::chrono::milliseconds limit = patience) {
  const auto m = esp::receive([](const esp::term&) { return true; }, limit);
  return m ? *m : esp::term(esp::atom("nothing"));
}

} // namespace test
