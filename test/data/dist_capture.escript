#!/usr/bin/env escript
%% -*- erlang -*-
%%! -noshell
%% Writes dist_golden.hpp beside itself: what a real Erlang node sends when a
%% node with given capability flags connects to it, and what term_to_binary
%% makes of the control tuples that this release does not send.
%%
%% usage: dist_capture.escript > dist_golden.hpp
%%
%% Starts a node and an epmd of its own on a port of its own, plays the other
%% node over a plain socket, and stops both again.
-mode(compile).

-define(OURS, 16#6D07DF5FBC). %% dist/flags.hpp
%% Without SEND_SENDER, EXIT_PAYLOAD, FRAGMENTS, UNLINK_ID, V4_NC, ALIAS, so
%% that the old form of everything comes, in pass-through packets.
-define(OLD, 16#0101005FBC bor 16#1070F94).
-define(EPMD_PORT, 14379).
-define(COOKIE, "golden cookie").
-define(NODE, "cap@127.0.0.1").
-define(US, "us@127.0.0.1").
-define(CHALLENGE, 3735928559).

main([]) ->
    process_flag(trap_exit, true),
    true = os:putenv("ERL_EPMD_PORT", integer_to_list(?EPMD_PORT)),
    true = os:putenv("ERL_EPMD_ADDRESS", "127.0.0.1"),
    Node = start_node(),
    try
        io:format("// Made by dist_capture.escript on OTP ~s. Do not edit.~n~n"
                  "#pragma once~n~n"
                  "#include <cstdint>~n#include <string_view>~n~n"
                  "namespace golden {~n~n"
                  "struct signal {~n"
                  "  std::string_view name;~n"
                  "  std::uint64_t flags;\n"
                  "  unsigned op;~n"
                  "  std::string_view packet; // without its length, in hex~n"
                  "};~n~n", [erlang:system_info(otp_release)]),
        io:format("inline constexpr std::string_view cookie = \"~s\";~n", [?COOKIE]),
        io:format("inline constexpr std::uint32_t challenge = ~wU;~n~n", [?CHALLENGE]),
        io:format("// What the node sends as acceptor: status, challenge, ack.~n"),
        Ours = connect(?OURS, true),
        New = [capture(Ours, ?OURS, C) || C <- cases(new)],
        gen_tcp:close(Ours),
        wait_gone(),
        Old = connect(?OLD, false),
        OldSignals = [capture(Old, ?OLD, C) || C <- cases(old)],
        accepted(),
        gen_tcp:close(Old),
        epmd_replies(),
        io:format("~n// Signals as the node sent them.~n"
                  "inline constexpr signal sent[] = {~n~s};~n~n",
                  [[New, OldSignals]]),
        io:format("// Control tuples of other releases, as term_to_binary makes"
                  " them, with a payload~n// where there is one.~n"
                  "inline constexpr signal built[] = {~n~s};~n~n",
                  [[built(B) || B <- built()]]),
        io:format("// erlang:md5(Cookie ++ integer_to_list(Challenge)).~n"
                  "struct proof {~n  std::string_view cookie;~n"
                  "  std::uint32_t challenge;~n  std::string_view md5;~n};~n"
                  "inline constexpr proof proofs[] = {~n~s};~n~n",
                  [[io_lib:format("    {\"~s\", ~wU, \"~s\"},~n",
                                  [C, N, hex(digest(C, N))])
                    || C <- ["", "c", ?COOKIE, lists:duplicate(54, $x),
                             lists:duplicate(55, $x), lists:duplicate(63, $y),
                             lists:duplicate(255, $z)],
                       N <- [0, 1, 16#7FFFFFFF, 16#80000000, 16#FFFFFFFF]]]),
        io:format("} // namespace golden~n")
    after
        {os_pid, Pid} = erlang:port_info(Node, os_pid),
        os:cmd("kill -9 " ++ integer_to_list(Pid)),
        receive {Node, {exit_status, _}} -> ok after 10000 -> ok end,
        os:cmd("epmd -port " ++ integer_to_list(?EPMD_PORT) ++ " -kill")
    end.

start_node() ->
    Eval = "F = fun F() -> receive {run, To, Text} -> "
           "{ok, Ts, _} = erl_scan:string(Text), {ok, Es} = erl_parse:parse_exprs(Ts), "
           "{value, _, _} = erl_eval:exprs(Es, [{'To', To}]), "
           "To ! done, F() end end, spawn(fun() -> register(cap, self()), io:format(\"up~n\"), F() end).",
    Erl = os:find_executable("erl"),
    Port = open_port({spawn_executable, Erl},
                     [{args, ["-noinput", "-hidden", "-name", ?NODE, "-setcookie", ?COOKIE,
                              "-kernel", "inet_dist_use_interface", "{127,0,0,1}",
                              "-eval", Eval]},
                      exit_status, {line, 200}, {env, []}]),
    receive {Port, {data, {eol, "up"}}} -> Port
    after 20000 -> exit(node_did_not_start) end.

%% Epmd's answer for the node.
port_of_node() ->
    {ok, S} = gen_tcp:connect({127,0,0,1}, ?EPMD_PORT, [binary, {active, false}, {packet, 2}]),
    ok = gen_tcp:send(S, <<122, "cap">>),
    ok = inet:setopts(S, [{packet, raw}]),
    {ok, <<119, 0, Port:16, _/binary>>} = gen_tcp:recv(S, 0, 5000),
    gen_tcp:close(S),
    Port.

connect(Flags, Print) ->
    {ok, S} = gen_tcp:connect({127,0,0,1}, port_of_node(),
                              [binary, {active, false}, {packet, 2}, {nodelay, true}]),
    ok = gen_tcp:send(S, [$N, <<Flags:64, 5:32, (length(?US)):16>>, ?US]),
    {ok, Status = <<"sok">>} = gen_tcp:recv(S, 0, 5000),
    {ok, Challenge = <<$N, _:64, Theirs:32, _/binary>>} = gen_tcp:recv(S, 0, 5000),
    ok = gen_tcp:send(S, [$r, <<?CHALLENGE:32>>, digest(?COOKIE, Theirs)]),
    {ok, Ack = <<$a, _:16/binary>>} = gen_tcp:recv(S, 0, 5000),
    ok = inet:setopts(S, [{packet, 4}]),
    [io:format("inline constexpr std::string_view ~s =~n    \"~s\";~n", [N, hex(B)])
     || Print, {N, B} <- [{"status", Status}, {"challenge_packet", Challenge}, {"ack", Ack}]],
    S.

%% The node dials us: its name packet and challenge reply.
accepted() ->
    {ok, L} = gen_tcp:listen(0, [binary, {active, false}, {packet, 2}, {ip, {127,0,0,1}}]),
    {ok, Port} = inet:port(L),
    {ok, E} = gen_tcp:connect({127,0,0,1}, ?EPMD_PORT, [binary, {active, false}, {packet, 2}]),
    ok = gen_tcp:send(E, <<120, Port:16, 72, 0, 6:16, 6:16, 2:16, "dd", 0:16>>),
    ok = inet:setopts(E, [{packet, raw}]),
    {ok, <<118, 0, Creation:32>>} = gen_tcp:recv(E, 6, 5000),
    {ok, S0} = gen_tcp:connect({127,0,0,1}, port_of_node(), [binary, {active, false}, {packet, 2}]),
    Me = self(),
    %% Ask the node through a third connection to dial us.
    spawn_link(fun() -> asker(S0, Me) end),
    {ok, S} = gen_tcp:accept(L, 5000),
    {ok, Name = <<$N, _/binary>>} = gen_tcp:recv(S, 0, 5000),
    ok = gen_tcp:send(S, "sok"),
    ok = gen_tcp:send(S, [$N, <<?OURS:64, ?CHALLENGE:32, Creation:32, 12:16>>, "dd@127.0.0.1"]),
    {ok, Reply = <<$r, Theirs:32, _:16/binary>>} = gen_tcp:recv(S, 0, 5000),
    ok = gen_tcp:send(S, [$a, digest(?COOKIE, Theirs)]),
    io:format("// As initiator: name, reply to the challenge above; our ack is the last.~n"),
    [io:format("inline constexpr std::string_view ~s =~n    \"~s\";~n", [N, hex(B)])
     || {N, B} <- [{"name_packet", Name}, {"challenge_reply", Reply},
                   {"our_ack", [$a, digest(?COOKIE, Theirs)]}]],
    gen_tcp:close(S), gen_tcp:close(L), gen_tcp:close(E).

%% What epmd answers; its replies have no length and it closes after most.
epmd_replies() ->
    io:format("// Epmd's replies to ALIVE2_REQ, PORT_PLEASE2_REQ for cap and for an"
              " unknown name,~n// and NAMES_REQ; epmd's creations begin at random.~n"),
    {Alive, Held} = epmd_ask(<<120, 16#1234:16, 72, 0, 6:16, 6:16, 5:16, "esp_a", 0:16>>, 6),
    {Known, K} = epmd_ask(<<122, "cap">>, closed),
    {Hidden, H} = epmd_ask(<<122, "esp_a">>, closed),
    {Unknown, U} = epmd_ask(<<122, "nobody">>, closed),
    {Names, N} = epmd_ask(<<110>>, closed),
    [gen_tcp:close(S) || S <- [Held, K, H, U, N]],
    [io:format("inline constexpr std::string_view ~s =~n    \"~s\";~n", [Name, hex(B)])
     || {Name, B} <- [{"epmd_alive", Alive}, {"epmd_port_of_cap", Known},
                      {"epmd_port_of_esp_a", Hidden},
                      {"epmd_port_of_nobody", Unknown}, {"epmd_names", Names}]].

epmd_ask(Request, Size) ->
    {ok, S} = gen_tcp:connect({127,0,0,1}, ?EPMD_PORT, [binary, {active, false}, {packet, 2}]),
    ok = gen_tcp:send(S, Request),
    ok = inet:setopts(S, [{packet, raw}]),
    {read_reply(S, Size, <<>>), S}.

read_reply(S, closed, Got) ->
    case gen_tcp:recv(S, 0, 5000) of
        {ok, More} -> read_reply(S, closed, <<Got/binary, More/binary>>);
        {error, closed} -> Got
    end;
read_reply(S, Size, <<>>) ->
    {ok, Got} = gen_tcp:recv(S, Size, 5000),
    Got.

asker(S, _Me) ->
    ok = gen_tcp:send(S, [$N, <<?OURS:64, 6:32, 12:16>>, "as@127.0.0.1"]),
    {ok, <<"sok">>} = gen_tcp:recv(S, 0, 5000),
    {ok, <<$N, _:64, Theirs:32, _/binary>>} = gen_tcp:recv(S, 0, 5000),
    ok = gen_tcp:send(S, [$r, <<?CHALLENGE:32>>, digest(?COOKIE, Theirs)]),
    {ok, <<$a, _:16/binary>>} = gen_tcp:recv(S, 0, 5000),
    ok = inet:setopts(S, [{packet, 4}]),
    send(S, {6, pid("as@127.0.0.1", 1, 6), '', cap},
         {run, pid("as@127.0.0.1", 1, 6), "net_kernel:connect_node('dd@127.0.0.1')."}),
    _ = gen_tcp:recv(S, 0, 20000).

wait_gone() ->
    %% The node drops the old connection of a name before it takes a new one;
    %% a name that it still knows is answered "alive" and refused here.
    try gen_tcp:close(connect(?OURS, false))
    catch error:{badmatch, _} -> wait_gone()
    end,
    ok.

digest(Cookie, Challenge) -> erlang:md5(Cookie ++ integer_to_list(Challenge)).

%% P is our pid, Q one of the node's that lives until told to go.
cases(Kind) ->
    [{"link", 1, "Q = spawn(fun() -> link(To), receive go -> ok end end), put(q, Q), "
                 "timer:sleep(0), register(q, Q)."},
     {"exit by link", pick(Kind, 24, 3),
      "Q = get(q), exit(Q, {shutdown, <<\"why\">>})."},
     {"unlink", pick(Kind, 35, 4), "link(To), unlink(To)."},
     {"monitor by pid", 19, "erlang:monitor(process, To)."},
     {"monitor by name", 19, "put(m, erlang:monitor(process, {a_name, node(To)}))."},
     {"demonitor by name", 20, "erlang:demonitor(get(m), [flush])."},
     {"message", pick(Kind, 22, 2), "To ! {hello, 1.5, [1, 2, 3], <<\"bin\">>, #{a => 1}}."},
     {"message to a name", 6, "{a_name, node(To)} ! \"text\"."},
     {"message with umlauts", 6, "{list_to_atom([228, 246, 1082]), node(To)} ! list_to_atom([228, 1082])."},
     {"group leader", 7, "group_leader(group_leader(), To)."},
     {"exit2", pick(Kind, 26, 8), "exit(To, kill)."},
     {"message with token", pick(Kind, 23, 12),
      "seq_trace:set_token(label, 17), To ! traced, seq_trace:set_token([])."},
     {"message to a name with token", 16,
      "seq_trace:set_token(label, 17), {a_name, node(To)} ! traced, seq_trace:set_token([])."},
     {"exit by link with token", pick(Kind, 25, 13),
      "Q = spawn(fun() -> link(To), seq_trace:set_token(label, 3), exit(with_token) end), put(q, Q)."}]
    ++
    [C || Kind =:= new, C <- [
     {"spawn request", 29, "spawn(fun() -> spawn_opt(node(To), lists, seq, [1, 3], [link, monitor]) end)."},
     {"spawn request with token", 30,
      "spawn(fun() -> seq_trace:set_token(label, 17), spawn(node(To), m, f, [{x}]) end)."}]].

pick(new, New, _) -> New;
pick(old, _, Old) -> Old.

%% Further signals that the node sends as answers.
capture(S, Flags, {Name, Op, Text}) ->
    send(S, Flags, {6, pid(?US, 1, 5), '', cap}, {run, pid(?US, 1, 5), Text}),
    Packet = wait_for(S, Flags, Op, Name, undefined, false),
    line(Name, Flags, Op, Packet).

wait_for(_, _, _, _, Packet, true) when Packet =/= undefined -> Packet;
wait_for(S, Flags, Op, Name, Found, Done) ->
    case gen_tcp:recv(S, 0, 5000) of
        {ok, <<>>} -> ok = gen_tcp:send(S, <<>>), wait_for(S, Flags, Op, Name, Found, Done);
        {ok, Packet} ->
            {Control, Payload} = split(Packet),
            case {element(1, Control), Payload} of
                {Op, P} when P =/= done, Found =:= undefined ->
                    wait_for(S, Flags, Op, Name, Packet, Done);
                {_, done} -> wait_for(S, Flags, Op, Name, Found, true);
                _ -> wait_for(S, Flags, Op, Name, Found, Done)
            end;
        Error -> said(), exit({Name, Op, Found, Done, Error})
    end.

%% What the node printed, when something did not come.
said() ->
    receive {_, {data, {_, Line}}} -> io:format(standard_error, "~s~n", [Line]), said()
    after 0 -> ok end.

split(<<131, 68, 0, Rest/binary>>) ->
    {Control, Used} = binary_to_term(<<131, Rest/binary>>, [used]),
    case Rest of
        <<_:(Used - 1)/binary>> -> {Control, none};
        <<_:(Used - 1)/binary, Payload/binary>> -> {Control, binary_to_term(<<131, Payload/binary>>)}
    end;
split(<<112, Rest/binary>>) ->
    {Control, Used} = binary_to_term(Rest, [used]),
    case Rest of
        <<_:Used/binary>> -> {Control, none};
        <<_:Used/binary, Payload/binary>> -> {Control, binary_to_term(Payload)}
    end.

send(S, Control, Payload) -> send(S, ?OURS, Control, Payload).

send(S, ?OURS, Control, Payload) ->
    ok = gen_tcp:send(S, [131, 68, 0, ext(Control), ext(Payload)]);
send(S, _, Control, Payload) ->
    ok = gen_tcp:send(S, [112, 131, ext(Control), 131, ext(Payload)]).

ext(Term) ->
    <<131, Bytes/binary>> = term_to_binary(Term, [{minor_version, 2}]),
    Bytes.

pid(Node, Id, Creation) ->
    binary_to_term(<<131, 88, 119, (length(Node)), (list_to_binary(Node))/binary,
                     Id:32, 0:32, Creation:32>>).

ref(Node, Creation, Words) ->
    binary_to_term(<<131, 90, (length(Words)):16, 119, (length(Node)),
                     (list_to_binary(Node))/binary, Creation:32,
                     << <<W:32>> || W <- Words>>/binary>>).

built() ->
    A = pid("a@127.0.0.1", 9, 16#6b0404fc),
    B = pid("coop@127.0.0.1", 4, 16#6b040504),
    R = ref("a@127.0.0.1", 16#6b0404fc, [1, 2, 3]),
    R5 = ref("coop@127.0.0.1", 16#6b040504, [1, 2, 3, 4, 5]),
    T = {1, label, 5, A, 4},
    O = ?OURS,
    No23 = ?OURS band bnot 16#2402000000, %% no UNLINK_ID, V4_NC, ALTACT_SIG
    N37 = ?OURS band bnot 16#2000000000, %% no ALTACT_SIG
    [{"the LINK of protocol.md", O, {1, A, B}},
     {"unlink of old", No23, {4, A, B}},
     {"unlink", O, {35, 1, A, B}},
     {"unlink, a large id", O, {35, 16#FFFFFFFFFFFFFFFF, A, B}},
     {"unlink, an id of 32 bits", O, {35, 16#80000000, A, B}},
     {"unlink, an id of 31 bits", O, {35, 16#7FFFFFFF, A, B}},
     {"unlink acknowledged", O, {36, 256, A, B}},
     {"monitor by pid", O, {19, A, B, R}},
     {"monitor by name", O, {19, A, coop, R}},
     {"demonitor by pid", O, {20, A, B, R}},
     {"monitor exit by pid", O, {28, B, A, R}, noproc},
     {"monitor exit by name", O, {28, coop, A, R}, {{a}, []}},
     {"monitor exit of old", O band bnot 16#400000, {21, coop, A, R, noproc}},
     {"exit of old", O band bnot 16#400000, {3, A, B, {a, reason}}},
     {"exit of old with token", O band bnot 16#400000, {13, A, B, T, {a, reason}}},
     {"exit2 with token", O, {27, A, B, T}, {a, b}},
     {"exit2 of old", O band bnot 16#400000, {8, A, B, shutdown}},
     {"exit2 of old with token", O band bnot 16#400000, {18, A, B, T, shutdown}},
     {"message of old", O band bnot 16#80000, {2, '', B}, hello},
     {"message of old with token", O band bnot 16#80000, {12, '', B, T}, hello},
     {"alias message of 25", N37, {33, A, R5}, {R5, reply}},
     {"alias message of 25 with token", N37, {34, A, R5, T}, {R5, reply}},
     {"alias message of 28", O, {37, 4, A, R5}, {R5, reply}},
     {"alias message of 28 with token", O, {37, 6, A, R5, T}, {R5, reply}},
     {"priority message of 28", O, {37, 1, A, B}, hello},
     {"priority message of 28 with token", O, {37, 3, A, B, T}, hello},
     {"priority message to a name of 28", O, {37, 9, A, coop}, hello},
     {"priority message to an alias of 28", O, {37, 5, A, R5}, hello},
     {"priority exit of 28", O, {37, 17, A, B}, why},
     {"priority exit of 28 with token", O, {37, 19, A, B, T}, why},
     {"exit to an alias of 28", O, {37, 20, A, R5}, why},
     {"exit to a name of 28", O, {37, 24, A, coop}, why},
     {"group leader", O, {7, A, B}},
     {"spawn request", O, {29, R, A, A, {m, f, 2}, [link, {priority, high}]}, [1, {x}]},
     {"spawn request, args a string", O, {29, R, A, A, {m, f, 2}, []}, "ab"},
     {"spawn request, no args", O, {29, R, A, A, {m, f, 0}, [monitor]}, []},
     {"spawn request with token", O, {30, R, A, A, {m, f, 1}, [], T}, [x]},
     {"spawn reply", O, {31, R, A, 3, B}},
     {"spawn reply, linked", O, {31, R, A, 1, B}},
     {"spawn reply, an error", O, {31, R, A, 0, badopt}},
     {"spawn reply with token", O, {32, R, A, 2, B, T}}].

built({Name, Flags, Control}) ->
    line(Name, Flags, element(1, Control), [131, 68, 0, ext(Control)]);
built({Name, Flags, Control, Payload}) ->
    line(Name, Flags, element(1, Control), [131, 68, 0, ext(Control), ext(Payload)]).

line(Name, Flags, Op, Packet) ->
    io_lib:format("    {\"~s\", 0x~.16B, ~w,~n     \"~s\"},~n", [Name, Flags, Op, hex(Packet)]).

hex(Bytes) ->
    string:lowercase(binary_to_list(binary:encode_hex(iolist_to_binary(Bytes)))).
