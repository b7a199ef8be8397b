// What an Erlang node can call on a node of ours: erpc, rpc, spawn, ping
// (protocol.md, section 8), asked by a real one.

#include "rpc/offer.hpp"

#include "support/live_node.hpp"
#include "trace/table.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <semaphore>
#include <string>
#include <vector>

using esp::atom;
using esp::term;

namespace {

const std::string erl = "rpc_erl@127.0.0.1";

struct world {
  world() : erlang(epmd, erl), home(test::options_of("rpc@127.0.0.1", epmd)) {
    esp::served::offer(home, table, traces, [this] { stops.release(); });
    table.add("test", "leak", 0,
              [](esp::served::call_context&, esp::served::arguments) -> term {
                throw std::runtime_error("a leak");
              });
    const auto started = home.start();
    if (!started)
      throw std::runtime_error(started.error().what);
    esp::served::start_servers(home, table);
  }
  ~world() { home.stop(); }

  test::epmd_daemon epmd;
  test::erlang_node erlang;
  std::counting_semaphore<> stops{0};
  esp::served::function_table table;
  esp::trace::table traces;
  esp::node::node home;
};

world& the() {
  static world w;
  return w;
}

// `text` with N bound to our node, evaluated there.
std::string ask(const std::string& text) {
  return test::eval_on(the().home, erl, "N = 'rpc@127.0.0.1', " + text);
}

} // namespace

TEST_CASE("a ping is answered with pong, and the connection stays") {
  CHECK(ask("net_adm:ping(N).") == "{ok,pong}");
  CHECK(ask("lists:member(N, nodes(hidden)).") == "{ok,true}");
}

TEST_CASE("erpc:call gives the value, or the exception that it was") {
  CHECK(ask("erpc:call(N, erlang, node, []).") == "{ok,'rpc@127.0.0.1'}");
  CHECK(ask("erpc:call(N, erlang, throw, [ball]).") == "{throw,ball}");
  CHECK(ask("erpc:call(N, erlang, exit, [why]).") == "{exit,{exception,why}}");
  CHECK(ask("erpc:call(N, erlang, error, [bad]).")
        == "{error,{exception,bad,[{erlang,error,[bad],[]}]}}");
  CHECK(ask("erpc:call(N, erlang, whereis, [7]).")
        == "{error,{exception,badarg,[{erlang,whereis,[7],[{error_info,"
           "#{module => erl_erts_errors}}]}]}}");
}

TEST_CASE("what is not in the table is undef, in a module or out of one") {
  CHECK(ask("erpc:call(N, os, cmd, [\"true\"]).")
        == "{error,{exception,undef,[{os,cmd,[\"true\"],[]}]}}");
  CHECK(ask("erpc:call(N, erlang, node, [a, b, c]).")
        == "{error,{exception,undef,[{erlang,node,[a,b,c],[]}]}}");
  CHECK(ask("rpc:call(N, os, cmd, [x]).")
        == "{ok,{badrpc,{'EXIT',{undef,[{os,cmd,[x],[]}]}}}}");
}

TEST_CASE("an exception of C++ is an error with its type and text") {
  CHECK(ask("erpc:call(N, test, leak, []).")
        == "{error,{exception,{cpp_exception,<<\"std::runtime_error\">>,"
           "<<\"a leak\">>},[{test,leak,[],[]}]}}");
}

TEST_CASE("a closure cannot run here, an external fun of the table can") {
  CHECK(ask("F = fun() -> 1 end, try erpc:call(N, F) catch "
            "error:{exception, {badfun, G}, _} -> F =:= G end.")
        == "{ok,true}");
  CHECK(ask("erpc:call(N, fun erlang:node/0).") == "{ok,'rpc@127.0.0.1'}");
  CHECK(ask("erpc:call(N, erlang, apply, [fun erlang:node/1, []]).")
        == "{error,{exception,{badarity,{fun erlang:node/1,[]}},"
           "[{erlang,apply,2,[]}]}}");
  CHECK(ask("erpc:call(N, erlang, apply, [erlang, whereis, [rex]]) =:= "
            "erpc:call(N, erlang, whereis, [rex]).")
        == "{ok,true}");
}

TEST_CASE("rpc:call, multicall, async_call and block_call") {
  CHECK(ask("rpc:call(N, erlang, node, []).") == "{ok,'rpc@127.0.0.1'}");
  CHECK(ask("rpc:call(N, erlang, throw, [ball]).") == "{ok,ball}");
  CHECK(ask("rpc:multicall([N, node()], erlang, node, []).")
        == "{ok,{['rpc@127.0.0.1','rpc_erl@127.0.0.1'],[]}}");
  CHECK(ask("erpc:multicall([N], erlang, exit, [x]).")
        == "{ok,[{exit,{exception,x}}]}");
  CHECK(ask("rpc:yield(rpc:async_call(N, erlang, node, [])).")
        == "{ok,'rpc@127.0.0.1'}");
  CHECK(ask("rpc:block_call(N, erlang, node, []).") == "{ok,'rpc@127.0.0.1'}");
  CHECK(ask("rpc:block_call(N, nope, nope, []).")
        == "{ok,{badrpc,{'EXIT',{undef,[{nope,nope,[],[]}]}}}}");
  CHECK(ask("rpc:call(N, timer, sleep, [infinity], 20).")
        == "{ok,{badrpc,timeout}}");
}

TEST_CASE("casts are carried out") {
  CHECK(ask("P = spawn(fun() -> receive X -> exit(X) end end), "
            "M = monitor(process, P), "
            "erpc:cast(N, erlang, exit, [P, cast]), "
            "receive {'DOWN', M, _, _, R} -> R end.")
        == "{ok,cast}");
  CHECK(ask("P = spawn(fun() -> receive X -> exit(X) end end), "
            "M = monitor(process, P), "
            "gen_server:cast({rex, N}, {cast, erlang, exit, [P, old], "
            "group_leader()}), "
            "receive {'DOWN', M, _, _, R} -> R end.")
        == "{ok,old}");
}

TEST_CASE("rex says what it can do") {
  CHECK(ask("register(me, self()), {rex, N} ! {self(), features_request}, "
            "receive {features_reply, W, L} -> {W, L} end.")
        == "{ok,{'rpc@127.0.0.1',[erpc]}}");
}

TEST_CASE("spawned functions of the table end as they would on any node") {
  CHECK(ask("{P, M} = spawn_monitor(N, erlang, exit, [why]), "
            "receive {'DOWN', M, process, P, R} -> {node(P), R} end.")
        == "{ok,{'rpc@127.0.0.1',why}}");
  CHECK(ask("{_, M} = spawn_monitor(N, erlang, node, []), "
            "receive {'DOWN', M, _, _, R} -> R end.")
        == "{ok,normal}");
  CHECK(ask("{_, M} = spawn_monitor(N, erlang, throw, [x]), "
            "receive {'DOWN', M, _, _, {R, _}} -> R end.")
        == "{ok,{nocatch,x}}");
  CHECK(ask("{_, M} = spawn_monitor(N, no, such, [1]), "
            "receive {'DOWN', M, _, _, R} -> R end.")
        == "{ok,{undef,[{no,such,[1],[]}]}}");
  CHECK(ask("F = fun() -> ok end, {_, M} = spawn_monitor(N, F), "
            "receive {'DOWN', M, _, _, {{badfun, G}, _}} -> F =:= G end.")
        == "{ok,true}");
}

TEST_CASE("spawn_request links and monitors before its reply") {
  CHECK(ask("process_flag(trap_exit, true), "
            "R = spawn_request(N, timer, sleep, [infinity], "
            "[link, {monitor, []}, {priority, high}]), "
            "receive {spawn_reply, R, ok, P} -> ok end, "
            "exit(P, enough), "
            "receive {'EXIT', P, A} -> receive {'DOWN', R, _, P, B} -> "
            "{A, B} end end.")
        == "{ok,{enough,enough}}");
  CHECK(ask("process_flag(trap_exit, true), "
            "P = spawn_link(N, no, such, []), "
            "receive {'EXIT', P, R} -> R end.")
        == "{ok,{undef,[{no,such,[],[]}]}}");
}

TEST_CASE("many processes spawned and ended at once keep the connection") {
  CHECK(ask("L = [spawn_monitor(N, erlang, exit, [I]) || "
            "I <- lists:seq(1, 2000)], "
            "lists:all(fun({I, {P, M}}) -> receive {'DOWN', M, _, P, R} -> "
            "R =:= I end end, lists:zip(lists:seq(1, 2000), L)).")
        == "{ok,true}");
  CHECK(ask("lists:usort(erpc:multicall(lists:duplicate(500, N), erlang, "
            "node, [])).")
        == "{ok,[{ok,'rpc@127.0.0.1'}]}");
}

TEST_CASE("processes are shown as they are") {
  CHECK(ask("lists:sort(erpc:call(N, erlang, registered, [])).")
        == "{ok,[net_kernel,rex]}");
  CHECK(ask("P = erpc:call(N, erlang, whereis, [rex]), "
            "{lists:member(P, erpc:call(N, erlang, processes, [])), "
            "erpc:call(N, erlang, is_process_alive, [P]), "
            "erpc:call(N, erlang, process_info, "
            "[P, [registered_name, trap_exit, status, links]]), "
            "erpc:call(N, erlang, process_info, [P, message_queue_len])}.")
        == "{ok,{true,true,[{registered_name,rex},{trap_exit,false},"
           "{status,waiting},{links,[]}],{message_queue_len,0}}}");
  CHECK(ask("{P, M} = spawn_monitor(N, erlang, node, []), "
            "receive {'DOWN', M, _, _, _} -> ok end, "
            "{erpc:call(N, erlang, process_info, [P]), "
            "erpc:call(N, erlang, is_process_alive, [P])}.")
        == "{ok,{undefined,false}}");
  CHECK(ask("P = spawn_link(N, timer, sleep, [infinity]), "
            "monitor(process, P), "
            "L = erpc:call(N, erlang, process_info, "
            "[P, [links, monitored_by, registered_name, initial_call]]), "
            "unlink(P), exit(P, kill), "
            "L =:= [{links, [self()]}, {monitored_by, [self()]}, "
            "{registered_name, []}, {initial_call, {timer, sleep, 1}}].")
        == "{ok,true}");
  CHECK(ask("erpc:call(N, erlang, process_info, [self()]).")
            .starts_with("{error,{exception,badarg,"));
}

TEST_CASE("the system tells what it is") {
  CHECK(ask("[erpc:call(N, erlang, system_info, [I]) || "
            "I <- [wordsize, dirty_cpu_schedulers, otp_release]].")
        == "{ok,[8,0,\"25\"]}");
  CHECK(ask("M = erpc:call(N, erlang, memory, []), "
            "T = proplists:get_value(total, M), "
            "{T > 1000000, T =:= proplists:get_value(processes, M) + "
            "proplists:get_value(system, M), "
            "is_integer(erpc:call(N, erlang, statistics, [run_queue]))}.")
        == "{ok,{true,true,true}}");
  CHECK(ask("{erpc:call(N, code, ensure_loaded, [erlang]), "
            "erpc:call(N, code, ensure_loaded, [nope])}.")
        == "{ok,{{module,erlang},{error,nofile}}}");
}

TEST_CASE("init:stop calls what the node was given for it") {
  CHECK(ask("rpc:call(N, init, stop, []).") == "{ok,ok}");
  // Only once its caller has had the answer.
  CHECK(the().stops.try_acquire_for(std::chrono::seconds(10)));
}

TEST_CASE("the servers answer system messages and ignore exit signals") {
  CHECK(ask("exit(erpc:call(N, erlang, whereis, [rex]), die), "
            "[begin {status, P, _, _} = sys:get_status({S, N}), "
            "ok = sys:suspend({S, N}), ok = sys:resume({S, N}), node(P) end "
            "|| S <- [rex, net_kernel]].")
        == "{ok,['rpc@127.0.0.1','rpc@127.0.0.1']}");
  CHECK(ask("catch gen_server:call({net_kernel, N}, nonsense, 20), "
            "{rex, N} ! nonsense, gen_server:cast({rex, N}, nonsense), "
            "net_adm:ping(N).")
        == "{ok,pong}");
}
