%% Flow control around native tasks: what a burst, a flood, a receiver that
%% does not read may cost, and that control passes all of them.
-module(credit_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, mailbox/0, down/1, pid/2]).

-define(C_NODE, t_credit).
-define(LIMIT, 20_000).
%% 256 KiB of at least 256 bytes each.
-define(AT_HEAD, 1024).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        a_burst_waits_with_those_who_relay,
        a_burst_of_large_data_stays_within_the_credit,
        each_vm_has_credit_of_its_own,
        control_passes_data_that_wait,
        exits_pass_data_that_wait,
        a_busy_worker_answers_for_idle_processes,
        a_datum_beyond_the_credit_goes_alone,
        a_relayer_killed_while_it_waits_costs_nothing,
        plain_messages_beyond_max_queue_are_dropped_and_counted,
        plain_messages_beyond_max_queue_bytes_are_dropped_and_counted,
        a_flood_of_a_node_hurts_nobody,
        an_edge_to_a_native_node_has_its_window,
        an_edge_to_an_erlang_node_has_its_window,
        a_native_edge_has_its_window,
        a_burst_through_both_homes_arrives_in_order,
        a_receiver_that_never_reads_is_not_flooded,
        a_receiver_that_waits_in_coop_is_not_waited_for
    ].

init_per_suite(Config) ->
    [{c_node, esp_test_c_node:start_measured(?C_NODE)} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

%%% Helpers

start(Nodes, More) ->
    process_flag(trap_exit, true),
    {ok, Coop} = coop:start_link(coop_flow:pipeline(Nodes), More#{node => ?C_NODE}),
    Coop.

stop(Coop) ->
    ok = coop:stop(Coop),
    _ = mailbox(),
    ok.

same(Name) -> coop:native(Name, sums, same, #{}).
plus1(Name) -> coop:native(Name, sums, plus1, #{}).
gate(Name) -> coop:native(Name, blocks, count, #{}).

vm(Name) -> coop:task(Name, fun(S, D) -> {S, D} end, #{}).

%% As `gate', in Erlang.
vm_gate(Name) ->
    coop:task(
        Name,
        fun
            (N, {wait, Pid}) ->
                Pid ! {waiting, self()},
                receive
                    {go, D} -> {N + 1, D}
                end;
            (N, D) ->
                {N + 1, D}
        end,
        #{init => fun() -> 0 end}
    ).

%% Whatever is behind waits, until open/1.
close(Coop) ->
    ok = coop:relay_data(Coop, {wait, self()}),
    receive
        {waiting, Gate} -> Gate
    after ?LIMIT -> ct:fail(gate_not_reached)
    end.

open(Gate) ->
    Gate ! {go, opened},
    ok.

relayer(Coop, Data) ->
    Self = self(),
    spawn_monitor(fun() ->
        Self ! {relayed, self(), lists:usort([coop:relay_data(Coop, D) || D <- Data])}
    end).

relayed({Pid, Ref}) ->
    receive
        {relayed, Pid, Results} ->
            normal = down(Ref),
            Results
    after ?LIMIT -> ct:fail({still_relaying, process_info(Pid, current_stacktrace)})
    end.

waits_for_credit({Pid, _}) ->
    eventually({to_wait_for_credit, Pid}, fun() ->
        {current_stacktrace, Stack} = process_info(Pid, current_stacktrace),
        lists:keymember(coop_credit, 1, Stack) andalso
            process_info(Pid, status) =:= {status, waiting}
    end).

%% Resident memory of the C-node, in MB.
resident() ->
    [Pid] = esp_test_lib:os_pids(?C_NODE),
    esp_test_dist:memory(#{os_pid => list_to_integer(Pid)}) div 1_000_000.

queue(Pid) -> maps:get(queue, coop_process:ask(Pid, info, ?LIMIT)).

%%% Bursts

a_burst_waits_with_those_who_relay(_) ->
    Coop = start([gate(a), coop:native(z, sums, total, #{args => 0})], #{receiver => self()}),
    Gate = close(Coop),
    Before = resident(),
    Relayers = [relayer(Coop, [I || I <- lists:seq(1, 50_000)]) || _ <- [1, 2, 3, 4]],
    eventually(head_blocked, fun() -> maps:get(blocked, coop:info(Coop)) end),
    [waits_for_credit(R) || R <- Relayers],
    #{queue := AtHead, dropped := 0} = coop:info(Coop),
    true = AtHead =< ?AT_HEAD,
    true = resident() - Before < 32,
    %% the gate's result is no number: nobody adds it
    Gate ! {go, 0},
    [[ok] = relayed(R) || R <- Relayers],
    ok = coop:flush(Coop, ?LIMIT),
    [Sum] = mailbox(),
    Sum = 4 * 50_000 * 50_001 div 2,
    true = resident() - Before < 32,
    #{in := 200_001, dropped := 0} = coop:info(Coop),
    stop(Coop).

a_burst_of_large_data_stays_within_the_credit(_) ->
    Coop = start([gate(a), coop:native(z, typed, nothing, #{})], #{}),
    Gate = close(Coop),
    Before = resident(),
    Large = binary:copy(<<7>>, 100_000),
    Relayer = relayer(Coop, lists:duplicate(2000, Large)),
    waits_for_credit(Relayer),
    %% 1,000 of them may be between head and gate; no more enter than credit
    %% lets, and what has entered the edge has given its credit back
    true = resident() - Before < 1000 * 100_000 div 1_000_000 + 48,
    open(Gate),
    [ok] = relayed(Relayer),
    ok = coop:flush(Coop, ?LIMIT),
    stop(Coop).

each_vm_has_credit_of_its_own(_) ->
    {_, Node} = Peer = esp_test_c_node:start_peer(relays),
    {ok, _} = erpc:call(Node, application, ensure_all_started, [erlangsp]),
    Coop = start([gate(a)], #{window => 10}),
    Gate = close(Coop),
    Here = relayer(Coop, lists:seq(1, 20_000)),
    waits_for_credit(Here),
    There = erpc:send_request(Node, ?MODULE, relay_all, [Coop, 20_000]),
    eventually(credit_of_both_used, fun() ->
        Q = queue(Coop),
        (Q > ?AT_HEAD andalso Q =< 2 * ?AT_HEAD) orelse Q
    end),
    no_response = erpc:wait_response(There, 0),
    open(Gate),
    [ok] = relayed(Here),
    {response, [ok]} = erpc:wait_response(There, ?LIMIT),
    ok = coop:flush(Coop, ?LIMIT),
    ok = erpc:call(Node, coop, flush, [Coop, ?LIMIT]),
    #{count := 40_001} = sys:get_state(pid(Coop, a)),
    stop(Coop),
    esp_test_c_node:stop_peer(Peer).

relay_all(Coop, N) ->
    lists:usort([coop:relay_data(Coop, I) || I <- lists:seq(1, N)]).

%%% Control

control_passes_data_that_wait(_) ->
    Coop = start([same(a), gate(b), same(c)], #{window => 100}),
    Gate = close(Coop),
    Relayer = relayer(Coop, lists:seq(1, 20_000)),
    waits_for_credit(Relayer),
    #{switches := [Switch]} = coop:info(Coop),
    [
        begin
            _ = sys:get_state(Pid),
            {status, Pid, _, _} = sys:get_status(Pid),
            ok = sys:suspend(Pid),
            ok = sys:resume(Pid),
            {ok, no_statistics} = sys:statistics(Pid, get),
            #{role := _} = coop_process:ask(Pid, info, ?LIMIT)
        end
     || Pid <- [Coop, pid(Coop, a), pid(Coop, c), Switch]
    ],
    true = coop:is_live(Coop),
    open(Gate),
    [ok] = relayed(Relayer),
    ok = coop:flush(Coop, ?LIMIT),
    #{count := 20_001} = sys:get_state(pid(Coop, b)),
    stop(Coop).

exits_pass_data_that_wait(_) ->
    [
        begin
            Coop = start([same(a), gate(b)], #{window => 100}),
            _ = close(Coop),
            Relayer = relayer(Coop, lists:seq(1, 6_000)),
            waits_for_credit(Relayer),
            exit(Which(Coop), boom),
            receive
                {'EXIT', Coop, boom} -> ok
            after ?LIMIT -> ct:fail(alive)
            end,
            [ok, {error, noproc}] = relayed(Relayer)
        end
     || Which <- [fun coop:head/1, fun(C) -> pid(C, a) end, fun(C) -> pid(C, b) end]
    ].

%% As many tasks compute as there are workers, each datum for longer than it
%% takes to be impatient; what others are asked in between is answered soon.
a_busy_worker_answers_for_idle_processes(_) ->
    Busy = [start([coop:native(a, spins, spin, #{})], #{}) || _ <- lists:seq(1, 4)],
    Idle = start([gate(a)], #{}),
    A = pid(Idle, a),
    [[ok = coop:relay_data(C, {spin, self(), 30}) || _ <- lists:seq(1, 20)] || C <- Busy],
    [receive {spinning, _} -> ok end || _ <- Busy],
    Times = [
        element(1, timer:tc(fun() -> #{count := 0} = sys:get_state(A, ?LIMIT) end))
     || _ <- lists:seq(1, 5)
    ],
    {true, _} = {lists:max(Times) < 1_000_000, Times},
    [ok = coop:flush(C, ?LIMIT) || C <- Busy],
    [stop(C) || C <- [Idle | Busy]].

a_datum_beyond_the_credit_goes_alone(_) ->
    Coop = start([same(a)], #{receiver => self()}),
    Large = binary:copy(<<7>>, 3 * 1024 * 1024),
    [ok = coop:relay_data(Coop, D) || D <- [small, Large, Large, small]],
    ok = coop:flush(Coop, ?LIMIT),
    [small, Large, Large, small] = mailbox(),
    stop(Coop).

a_relayer_killed_while_it_waits_costs_nothing(_) ->
    Coop = start([gate(a)], #{window => 10}),
    Gate = close(Coop),
    Relayers = [relayer(Coop, lists:seq(1, 10_000)) || _ <- [1, 2, 3]],
    [waits_for_credit(R) || R <- Relayers],
    [begin exit(P, kill), killed = down(R) end || {P, R} <- Relayers],
    open(Gate),
    ok = coop:flush(Coop, ?LIMIT),
    %% all the credit is there again, and for one who takes it whole
    [ok = coop:relay_data(Coop, binary:copy(<<1>>, 300_000)) || _ <- [1, 2, 3]],
    ok = coop:flush(Coop, ?LIMIT),
    0 = queue(Coop),
    stop(Coop).

%%% Floods

plain_messages_beyond_max_queue_are_dropped_and_counted(_) ->
    Coop = start([same(a)], #{receiver => self(), max_queue => 100}),
    A = pid(Coop, a),
    [
        begin
            ok = sys:suspend(Pid),
            [Pid ! I || I <- lists:seq(1, 5000)],
            %% asked by the same process: behind all of them
            #{queue := 100, dropped := 4900} = coop_process:ask(Pid, info, ?LIMIT),
            ok = coop:relay_data(Coop, with_credit),
            ok = sys:resume(Pid),
            ok = coop:flush(Coop, ?LIMIT),
            Expected = lists:seq(1, 100) ++ [with_credit],
            Expected = mailbox()
        end
     || Pid <- [Coop, A]
    ],
    stop(Coop).

plain_messages_beyond_max_queue_bytes_are_dropped_and_counted(_) ->
    Coop = start([same(a)], #{receiver => self(), max_queue_bytes => 100_000}),
    A = pid(Coop, a),
    Large = binary:copy(<<1>>, 30_000),
    [
        begin
            ok = sys:suspend(Pid),
            [Pid ! Large || _ <- lists:seq(1, 10)],
            #{queue := 3, dropped := 7} = coop_process:ask(Pid, info, ?LIMIT),
            ok = sys:resume(Pid),
            ok = coop:flush(Coop, ?LIMIT),
            [Large, Large, Large] = mailbox(),
            %% there is room again
            [Pid ! Large || _ <- [1, 2, 3]],
            ok = coop:flush(Coop, ?LIMIT),
            [Large, Large, Large] = mailbox()
        end
     || Pid <- [Coop, A]
    ],
    stop(Coop).

a_flood_of_a_node_hurts_nobody(_) ->
    Coop = start([gate(a)], #{}),
    Other = start([plus1(a)], #{receiver => self()}),
    A = pid(Coop, a),
    ok = sys:suspend(A),
    Before = resident(),
    [A ! {flood, I} || I <- lists:seq(1, 300_000)],
    [ok = coop:relay_data(Other, I) || I <- [1, 2, 3]],
    ok = coop:flush(Other, ?LIMIT),
    [2, 3, 4] = mailbox(),
    #{queue := 10_000, dropped := 290_000} = coop_process:ask(A, info, ?LIMIT),
    true = resident() - Before < 64,
    ok = sys:resume(A),
    ok = coop:flush(Coop, ?LIMIT),
    #{count := 10_000} = sys:get_state(A),
    stop(Coop),
    stop(Other).

%%% Windows

%% No more than a window is between the two, wherever they live.
window(Nodes, Sender, Queue) ->
    Coop = start(Nodes, #{window => 10, receiver => none}),
    Gate = close(Coop),
    Relayer = relayer(Coop, lists:seq(1, 10_000)),
    waits_for_credit(Relayer),
    eventually(sender_blocked, fun() ->
        maps:get(blocked, coop_process:ask(pid(Coop, Sender), info, ?LIMIT))
    end),
    {true, _} = {Queue(Gate) =< 10, Queue(Gate)},
    open(Gate),
    [ok] = relayed(Relayer),
    ok = coop:flush(Coop, ?LIMIT),
    #{in := 10_001} = coop_process:ask(Gate, info, ?LIMIT),
    stop(Coop).

%% Of a process that is busy only its own queue may be looked at.
native_queue(Gate) ->
    {message_queue_len, N} = erpc:call(
        node(Gate), erlang, process_info, [Gate, message_queue_len]
    ),
    N.

vm_queue(Gate) ->
    {message_queue_len, N} = process_info(Gate, message_queue_len),
    N.

an_edge_to_a_native_node_has_its_window(_) ->
    window([vm(a), gate(b)], a, fun native_queue/1).

an_edge_to_an_erlang_node_has_its_window(_) ->
    window([same(a), vm_gate(b)], a, fun vm_queue/1).

a_native_edge_has_its_window(_) ->
    window([same(a), gate(b)], a, fun native_queue/1).

a_burst_through_both_homes_arrives_in_order(_) ->
    Coop = start([same(a), vm(b), same(c), vm(d), same(e)], #{receiver => self(), window => 50}),
    N = 20_000,
    Relayer = relayer(Coop, lists:seq(1, N)),
    [
        receive
            Next when is_integer(Next) -> I = Next
        after ?LIMIT -> ct:fail({missing, I})
        end
     || I <- lists:seq(1, N)
    ],
    [ok] = relayed(Relayer),
    stop(Coop).

%%% Receivers

a_receiver_that_never_reads_is_not_flooded(_) ->
    Receiver = spawn_link(fun() ->
        receive
            read -> swallow(0)
        end
    end),
    Coop = start([same(a)], #{receiver => Receiver, window => 100}),
    A = pid(Coop, a),
    Relayer = relayer(Coop, lists:seq(1, 20_000)),
    waits_for_credit(Relayer),
    {message_queue_len, Length} = process_info(Receiver, message_queue_len),
    {true, Length} = {Length =< 200, Length},
    #{receiver := {metered, Receiver}} = coop_process:ask(A, info, ?LIMIT),
    Receiver ! read,
    [ok] = relayed(Relayer),
    ok = coop:flush(Coop, ?LIMIT),
    Receiver ! {count, self()},
    receive
        {counted, Count} -> 20_000 = Count
    after ?LIMIT -> ct:fail(not_counted)
    end,
    unlink(Receiver),
    exit(Receiver, kill),
    stop(Coop).

swallow(N) ->
    receive
        {count, Pid} -> Pid ! {counted, N};
        _ -> swallow(N + 1)
    end.

a_receiver_that_waits_in_coop_is_not_waited_for(_) ->
    Coop = start([same(a)], #{receiver => self(), window => 10}),
    [ok = coop:relay_data(Coop, I) || I <- lists:seq(1, 20_000)],
    ok = coop:flush(Coop, ?LIMIT),
    20_000 = length(mailbox()),
    stop(Coop).
