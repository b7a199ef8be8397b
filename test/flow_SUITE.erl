%% How data enter and leave: dead letters, the policies of `overload', results in
%% batches and by demand. Each case runs on co-ops of two nodes, `a' and `z', in every
%% combination of homes.
-module(flow_SUITE).

-export([all/0, suite/0, groups/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, take/1, mailbox/0, down/1]).

-define(C_NODE, t_flow).
-define(LIMIT, 20_000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, G} || G <- [native, vm, native_to_vm, vm_to_native]].

groups() ->
    Cases = [
        data_beyond_max_queue_go_to_the_dead_letter,
        a_dead_letter_has_a_pid_or_a_name,
        a_dead_letter_is_not_sent_twice,
        a_dead_letter_that_nobody_has_stops_nobody,
        results_for_a_coop_that_has_gone_are_dead_letters,
        a_dead_letter_on_a_node_that_does_not_read_is_counted,
        shed_refuses_instead_of_waiting,
        shed_refuses_beyond_max_queue,
        drop_oldest_keeps_the_newest,
        drop_oldest_counts_bytes_too,
        one_large_datum_is_never_too_much,
        marks_that_nobody_could_have_sent_are_dropped,
        who_attaches_without_end_gets_a_few_edges,
        a_call_whose_datum_is_dropped_hears_of_it,
        sojourn_drops_what_has_waited,
        results_come_in_batches_in_order,
        a_batch_that_is_not_full_does_not_wait,
        a_batch_carries_the_tag_once,
        a_batch_is_sent_before_the_mark_of_a_flush,
        a_receiver_that_never_reads_gets_few_batches,
        a_batch_to_a_coop_is_one_datum,
        a_batch_survives_its_node,
        results_wait_until_asked_for,
        results_are_asked_for_in_batches,
        results_that_are_ready_leave_a_suspended_node,
        nodes_of_the_last_tier_share_what_is_asked_for,
        results_for_one_who_asked_and_died_go_nowhere,
        a_coop_that_nobody_may_ask_ignores_it,
        a_receiver_on_a_vm_without_erlangsp_is_unmetered
    ],
    [{G, [], Cases} || {group, G} <- all()].

init_per_suite(Config) ->
    [{c_node, esp_test_c_node:start(?C_NODE)} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

init_per_group(Group, Config) ->
    {First, Last} =
        case Group of
            native -> {native, native};
            vm -> {vm, vm};
            native_to_vm -> {native, vm};
            vm_to_native -> {vm, native}
        end,
    [{homes, {First, Last}} | Config].

end_per_group(_Group, _Config) ->
    ok.

%%% Helpers

%% Both hand on what they get. {wait, Pid} makes either tell Pid `{waiting,
%% self()}' and go on when it gets {go, Result}.
two(Config) ->
    {First, Last} = proplists:get_value(homes, Config),
    [one(First, a), one(Last, z)].

one(native, Name) ->
    coop:native(Name, blocks, count, #{});
one(vm, Name) ->
    Task = fun
        (N, {wait, Pid}) ->
            Pid ! {waiting, self()},
            receive
                {go, D} -> {N + 1, D}
            end;
        (_, crash) ->
            error(crash);
        (N, D) ->
            {N + 1, D}
    end,
    coop:task(Name, Task, #{init => fun() -> 0 end}).

start(Config, Options) ->
    process_flag(trap_exit, true),
    {ok, Coop} = coop:start_link(
        coop_flow:pipeline(two(Config)),
        maps:merge(#{node => ?C_NODE, receiver => self()}, Options)
    ),
    Coop.

stop(Coop) ->
    ok = coop:stop(Coop),
    _ = mailbox(),
    ok.

pid(Coop, head) ->
    Coop;
pid(Coop, Name) ->
    esp_test_lib:pid(Coop, Name).

info(Coop, Name) -> coop_process:ask(pid(Coop, Name), info, ?LIMIT).

%% What has been sent by one process is counted when it has an answer.
flood(Pid, Data) ->
    [Pid ! D || D <- Data],
    ok.

%%% Dead letters

data_beyond_max_queue_go_to_the_dead_letter(Config) ->
    Coop = start(Config, #{max_queue => 100, dead_letter => self()}),
    [
        begin
            ok = sys:suspend(pid(Coop, Name)),
            flood(pid(Coop, Name), lists:seq(1, 1000)),
            #{queue := 100, dropped := 900, dead_lettered := 900} = info(Coop, Name),
            Letters = take(900),
            Letters = [{coop_dead_letter, Coop, Name, I, overloaded} || I <- lists:seq(101, 1000)],
            ok = sys:resume(pid(Coop, Name)),
            ok = coop:flush(Coop, ?LIMIT),
            Kept = mailbox(),
            Kept = lists:seq(1, 100)
        end
     || Name <- [head, a, z]
    ],
    stop(Coop).

a_dead_letter_has_a_pid_or_a_name(Config) ->
    register(the_dead, self()),
    [
        begin
            Coop = start(Config, #{max_queue => 1, dead_letter => To}),
            ok = sys:suspend(Coop),
            flood(Coop, [1, 2]),
            [{coop_dead_letter, Coop, head, 2, overloaded}] = take(1),
            stop(Coop)
        end
     || To <- [self(), the_dead, {the_dead, node()}]
    ],
    unregister(the_dead),
    {error, {bad_option, {dead_letter, "x"}}} =
        coop:start_link(coop_flow:pipeline(two(Config)), #{dead_letter => "x"}).

%% Two co-ops that are each other's: what neither can keep is gone.
a_dead_letter_is_not_sent_twice(Config) ->
    A = start(Config, #{max_queue => 10, dead_letter => {its_end, node_of_head(Config)}}),
    B = start(Config, #{max_queue => 10, dead_letter => A, name => its_end}),
    [ok = sys:suspend(Pid) || Pid <- [A, B]],
    flood(A, lists:seq(1, 100)),
    #{queue := 10, dropped := 90, dead_lettered := 90} = info(A, head),
    eventually(b_full, fun() ->
        case info(B, head) of
            #{queue := 10, dropped := 80, dead_lettered := 0} -> true;
            Other -> maps:with([queue, dropped, dead_lettered], Other)
        end
    end),
    #{queue := 10, dropped := 90} = info(A, head),
    stop(A),
    stop(B).

node_of_head(Config) ->
    case proplists:get_value(homes, Config) of
        {native, _} -> esp_node:node(?C_NODE);
        {vm, _} -> node()
    end.

a_dead_letter_that_nobody_has_stops_nobody(Config) ->
    {Gone, Ref} = spawn_monitor(fun() -> ok end),
    normal = down(Ref),
    [
        begin
            Coop = start(Config, #{max_queue => 10, dead_letter => To}),
            ok = sys:suspend(Coop),
            flood(Coop, lists:seq(1, 20)),
            #{dropped := 10, dead_lettered := Sent} = info(Coop, head),
            true = Sent =:= 10 orelse To =:= none,
            ok = sys:resume(Coop),
            ok = coop:flush(Coop, ?LIMIT),
            10 = length(mailbox()),
            stop(Coop)
        end
     || To <- [Gone, no_such_name, none]
    ].

results_for_a_coop_that_has_gone_are_dead_letters(Config) ->
    Next = start(Config, #{}),
    Coop = start(Config, #{receiver => coop:'of'(Next), dead_letter => self(), tag => t}),
    ok = coop:stop(Next),
    [{'EXIT', Next, normal}] = mailbox(),
    N = 2000,
    [ok = coop:relay_data(Coop, I) || I <- lists:seq(1, N)],
    ok = coop:flush(Coop, ?LIMIT),
    #{dropped := N, dead_lettered := N, receiver := {gone, Next}} = info(Coop, z),
    Letters = mailbox(),
    Letters = [{coop_dead_letter, Coop, z, {t, I}, noproc} || I <- lists:seq(1, N)],
    stop(Coop).

%% It is stopped as an OS process, so that its connections fill up.
a_dead_letter_on_a_node_that_does_not_read_is_counted(Config) ->
    {_, Node} = Peer = esp_test_c_node:start_peer(reads_not),
    Counter = erpc:call(Node, ?MODULE, start_counter, []),
    pong = erpc:call(Node, net_adm, ping, [esp_node:node(?C_NODE)]),
    OsPid = erpc:call(Node, os, getpid, []),
    Coop = start(Config, #{max_queue => 1, dead_letter => Counter}),
    ok = sys:suspend(Coop),
    [] = os:cmd("kill -STOP " ++ OsPid),
    N = 1000,
    flood(Coop, lists:duplicate(N, binary:copy(<<7>>, 100_000))),
    #{dropped := Dropped, dead_lettered := Sent} = info(Coop, head),
    [] = os:cmd("kill -CONT " ++ OsPid),
    Dropped = N - 1,
    %% what the kernel's buffers and a few MB of ours hold
    {true, _} = {Sent < 500, Sent},
    eventually(all_that_was_sent_there, fun() ->
        case erpc:call(Node, ?MODULE, count, [Counter]) of
            Sent -> true;
            Other -> {Other, 'of', Sent}
        end
    end),
    stop(Coop),
    esp_test_c_node:stop_peer(Peer).

start_counter() ->
    spawn(fun() -> counter(0) end).

counter(N) ->
    receive
        {count, Pid} ->
            Pid ! {counted, self(), N},
            counter(N);
        {coop_dead_letter, _, _, _, _} ->
            counter(N + 1)
    end.

count(Counter) ->
    Counter ! {count, self()},
    receive
        {counted, Counter, N} -> N
    after ?LIMIT -> timeout
    end.

%%% Overload

%% Whatever is behind `a' waits, until open/1.
close(Coop) ->
    ok = coop:relay_data(Coop, {wait, self()}),
    receive
        {waiting, Gate} ->
            receive
                {waiting, _Last} -> ct:fail(the_last_tier_waits)
            after 0 -> Gate
            end
    after ?LIMIT -> ct:fail(gate_not_reached)
    end.

open(Gate) ->
    Gate ! {go, opened},
    ok.

%% Relays numbers from I on until one is refused.
relay_until_refused(Coop, I) ->
    case coop:relay_data(Coop, I) of
        ok -> relay_until_refused(Coop, I + 1);
        {error, overloaded} -> I
    end.

shed_refuses_instead_of_waiting(Config) ->
    Coop = start(Config, #{overload => shed, window => 10}),
    Gate = close(Coop),
    Refused = relay_until_refused(Coop, 1),
    {error, overloaded} = coop:relay_batch(Coop, [x, y]),
    {error, overloaded} = coop:call(Coop, x, infinity),
    %% it has credit of its own
    ok = coop:relay_high_priority_data(Coop, urgent),
    eventually(refusals_known, fun() ->
        case coop:info(Coop) of
            #{overload := shed, overloaded := 4, dropped := 0} -> true;
            Other -> maps:with([overload, overloaded, dropped], Other)
        end
    end),
    open(Gate),
    ok = coop:flush(Coop, ?LIMIT),
    %% what was not refused was not dropped
    All = mailbox(),
    Before = lists:takewhile(fun(D) -> D =/= urgent end, All),
    [urgent | After] = lists:nthtail(length(Before), All),
    Expected = [opened | lists:seq(1, Refused - 1)],
    Expected = Before ++ After,
    %% credit comes back on a way of its own, which may be longer
    eventually(no_refusal, fun() -> coop:call(Coop, x, ?LIMIT) =:= {ok, x} end),
    stop(Coop).

shed_refuses_beyond_max_queue(Config) ->
    Coop = start(Config, #{overload => shed, max_queue => 50}),
    ok = sys:suspend(Coop),
    [ok = coop:relay_data(Coop, I) || I <- lists:seq(1, 51)],
    eventually(refusal, fun() -> coop:relay_data(Coop, more) =:= {error, overloaded} end),
    %% nowhere near what the credit allows
    #{queue := Queue} = coop:info(Coop),
    {true, _} = {Queue < 1000, Queue},
    ok = sys:resume(Coop),
    eventually(no_refusal, fun() -> coop:relay_data(Coop, again) =:= ok end),
    ok = coop:flush(Coop, ?LIMIT),
    Results = mailbox(),
    Results =
        lists:seq(1, 51) ++ lists:duplicate(Queue - 51, more) ++
            lists:duplicate(length(Results) - Queue, again),
    stop(Coop).

drop_oldest_keeps_the_newest(Config) ->
    Coop = start(Config, #{
        overload => drop_oldest, window => 10, max_queue => 100, dead_letter => self(), tag => out
    }),
    Gate = close(Coop),
    N = 20_000,
    Self = self(),
    %% by twenty at least beyond what the credit allows: nobody waits
    Half = N div 2,
    [ok = coop:relay_data(Coop, I) || I <- lists:seq(1, Half)],
    Flusher = spawn_monitor(fun() -> Self ! {flushed, coop:flush(Coop, ?LIMIT)} end),
    eventually(flush_waits, fun() ->
        {current_function, {_, F, _}} = process_info(element(1, Flusher), current_function),
        F =:= await_marks
    end),
    ok = coop:relay_batch(Coop, lists:seq(Half + 1, N)),
    eventually(room_made, fun() ->
        case coop:info(Coop) of
            #{queue := Queue, dropped := Dropped} when Dropped > N - 150 -> Queue =< 100;
            Other -> maps:with([queue, dropped], Other)
        end
    end),
    open(Gate),
    ok = coop:flush(Coop, ?LIMIT),
    #{overload := drop_oldest, overloaded := Dropped, dropped := Dropped} = coop:info(Coop),
    #{dead_lettered := Dropped} = coop:info(Coop),
    normal = down(element(2, Flusher)),
    All = mailbox(),
    [{flushed, ok}] = [M || {flushed, _} = M <- All],
    [opened | Out] = [D || {out, D} <- All],
    Dead = [D || {coop_dead_letter, Head, head, D, overloaded} <- All, Head =:= Coop],
    Dropped = length(Dead),
    Dead = lists:sort(Dead),
    Out = lists:sort(Out),
    Everything = lists:seq(1, N),
    Everything = lists:merge(Out, Dead),
    %% the newest are there; two of the hundred places may have been flushes'
    Newest = lists:seq(N - 97, N),
    Newest = lists:nthtail(length(Out) - 98, Out),
    stop(Coop).

one_large_datum_is_never_too_much(Config) ->
    Coop = start(Config, #{overload => drop_oldest, max_queue_bytes => 100_000}),
    Large = {large, binary:copy(<<7>>, 300_000)},
    %% alone, and pushing out what was before it
    ok = coop:relay_data(Coop, Large),
    ok = coop:flush(Coop, ?LIMIT),
    [Large] = mailbox(),
    ok = sys:suspend(Coop),
    [ok = coop:relay_data(Coop, Datum) || Datum <- [small, Large]],
    eventually(room_made, fun() ->
        case coop:info(Coop) of
            #{queue := 1, dropped := 1} -> true;
            Other -> maps:with([queue, dropped], Other)
        end
    end),
    ok = sys:resume(Coop),
    ok = coop:flush(Coop, ?LIMIT),
    [Large] = mailbox(),
    stop(Coop).

marks_that_nobody_could_have_sent_are_dropped(Config) ->
    Coop = start(Config, #{}),
    #{nodes := Nodes} = coop:info(Coop),
    [
        Pid ! Message
     || Pid <- [Coop | [Pid || {_, Pid} <- Nodes]],
        Message <- [
            {'$coop', flush, foo},
            {'$coop', flush, #{a => 1, b => 2}},
            {'$coop', barrier, 1, foo},
            {'$coop', barrier, 4711, {self(), make_ref()}},
            {'$coop', credit, 1, foo},
            {'$coop', attached, 1, 1, 1, block},
            {'$coop'}
        ]
    ],
    ok = coop:relay_data(Coop, 1),
    ok = coop:flush(Coop, ?LIMIT),
    [1] = mailbox(),
    stop(Coop).

who_attaches_without_end_gets_a_few_edges(Config) ->
    Coop = start(Config, #{}),
    [Coop ! {'$coop', attach, self(), I, relay} || I <- lists:seq(1, 200)],
    _ = coop:info(Coop),
    4 = length([Edge || {'$coop', attached, _, Edge, _, _} <- mailbox()]),
    ok = coop:relay_data(Coop, 1),
    ok = coop:flush(Coop, ?LIMIT),
    [1] = mailbox(),
    stop(Coop).

drop_oldest_counts_bytes_too(Config) ->
    Coop = start(Config, #{overload => drop_oldest, max_queue_bytes => 1_000_000}),
    ok = sys:suspend(Coop),
    [ok = coop:relay_data(Coop, {I, binary:copy(<<7>>, 100_000)}) || I <- lists:seq(1, 30)],
    eventually(room_made, fun() ->
        case coop:info(Coop) of
            #{queue := 9, dropped := 21} -> true;
            Other -> maps:with([queue, dropped], Other)
        end
    end),
    ok = sys:resume(Coop),
    ok = coop:flush(Coop, ?LIMIT),
    Kept = [I || {I, _} <- mailbox()],
    Kept = lists:seq(22, 30),
    stop(Coop).

a_call_whose_datum_is_dropped_hears_of_it(Config) ->
    Coop = start(Config, #{overload => drop_oldest, max_queue => 10, receiver => none}),
    ok = sys:suspend(Coop),
    Self = self(),
    {_, Ref} = spawn_monitor(fun() -> Self ! {called, coop:call(Coop, x, infinity)} end),
    eventually(datum_there, fun() -> maps:get(queue, coop:info(Coop)) =:= 1 end),
    ok = coop:relay_batch(Coop, lists:seq(1, 10)),
    [{called, {error, overloaded}}] = take(1),
    normal = down(Ref),
    ok = sys:resume(Coop),
    {ok, y} = coop:call(Coop, y, ?LIMIT),
    stop(Coop).

sojourn_drops_what_has_waited(Config) ->
    Coop = start(Config, #{overload => {sojourn, 100}, dead_letter => self(), tag => out}),
    {ok, 0} = coop:call(Coop, 0, ?LIMIT),
    ok = sys:suspend(Coop),
    [ok = coop:relay_data(Coop, I) || I <- lists:seq(1, 10)],
    flood(Coop, [11]),
    ok = coop:relay_high_priority_data(Coop, urgent),
    eventually(all_there, fun() -> maps:get(queue, coop:info(Coop)) =:= 12 end),
    %% time is what this is about
    receive
    after 150 -> ok
    end,
    ok = sys:resume(Coop),
    ok = coop:flush(Coop, ?LIMIT),
    [{out, urgent} | Letters] = lists:sort(mailbox()),
    Letters = [{coop_dead_letter, Coop, head, I, overloaded} || I <- lists:seq(1, 11)],
    #{overload := {sojourn, 100}, overloaded := 11, dropped := 11} = coop:info(Coop),
    eventually(soon_enough, fun() -> coop:call(Coop, 1, ?LIMIT) =:= {ok, 1} end),
    stop(Coop).

%%% Batches

results_come_in_batches_in_order(Config) ->
    Coop = start(Config, #{batch => 10}),
    Z = pid(Coop, z),
    ok = sys:suspend(Z),
    ok = coop:relay_batch(Coop, lists:seq(1, 95)),
    eventually(all_there, fun() -> maps:get(queue, info(Coop, z)) =:= 95 end),
    ok = sys:resume(Z),
    Batches = take(10),
    Batches = [{coop_batch, Coop, lists:seq(I, min(95, I + 9))} || I <- lists:seq(1, 95, 10)],
    #{out := 95} = info(Coop, z),
    stop(Coop),
    {error, {bad_option, {batch, 0}}} =
        coop:start_link(coop_flow:pipeline(two(Config)), #{batch => 0}).

a_batch_that_is_not_full_does_not_wait(Config) ->
    Coop = start(Config, #{batch => 1000}),
    [
        begin
            ok = coop:relay_data(Coop, I),
            [{coop_batch, Coop, [I]}] = take(1)
        end
     || I <- [1, 2, 3]
    ],
    {ok, 4} = coop:call(Coop, 4, ?LIMIT),
    stop(Coop).

a_batch_carries_the_tag_once(Config) ->
    Coop = start(Config, #{batch => 5, tag => {my, tag}}),
    ok = coop:relay_data(Coop, 1),
    [{{my, tag}, {coop_batch, Coop, [1]}}] = take(1),
    stop(Coop).

a_batch_is_sent_before_the_mark_of_a_flush(Config) ->
    Coop = start(Config, #{batch => 70, window => 50}),
    N = 3000,
    ok = coop:relay_batch(Coop, lists:seq(1, N)),
    ok = coop:flush(Coop, ?LIMIT),
    Results = unbatched(Coop, mailbox()),
    Results = lists:seq(1, N),
    stop(Coop).

unbatched(Coop, Messages) ->
    lists:append([
        begin
            {coop_batch, Coop, Results} = M,
            Results
        end
     || M <- Messages
    ]).

%% The meter counts messages, and is told how many results each may be.
a_receiver_that_never_reads_gets_few_batches(Config) ->
    Receiver = spawn_link(fun() -> read_when_told() end),
    Coop = start(Config, #{batch => 50, window => 100, receiver => Receiver}),
    Self = self(),
    Relayer = spawn_monitor(fun() ->
        ok = coop:relay_batch(Coop, lists:seq(1, 20_000)),
        Self ! relayed
    end),
    eventually(no_credit, fun() ->
        {current_stacktrace, Stack} = process_info(element(1, Relayer), current_stacktrace),
        lists:keymember(coop_credit, 1, Stack)
    end),
    {message_queue_len, Length} = process_info(Receiver, message_queue_len),
    {true, Length} = {Length =< 200, Length},
    Receiver ! {read, self()},
    normal = down(element(2, Relayer)),
    ok = coop:flush(Coop, ?LIMIT),
    Receiver ! {stop, self()},
    [relayed, {read, All}] = take(2),
    Results = unbatched(Coop, All),
    Results = lists:seq(1, 20_000),
    stop(Coop).

read_when_told() ->
    receive
        {read, _} -> read([])
    end.

read(All) ->
    receive
        {stop, Pid} -> Pid ! {read, lists:reverse(All)};
        Message -> read([Message | All])
    end.

%% Credit is for results: a batch larger than the other's window goes in parts.
a_batch_to_a_coop_is_one_datum(Config) ->
    Next = start(Config, #{window => 10}),
    Coop = start(Config, #{batch => 100, receiver => Next, tag => t}),
    N = 2000,
    ok = coop:relay_batch(Coop, lists:seq(1, N)),
    ok = coop:flush(Coop, ?LIMIT),
    ok = coop:flush(Next, ?LIMIT),
    Messages = [M || {t, M} <- mailbox()],
    Results = unbatched(Coop, Messages),
    Results = lists:seq(1, N),
    %% how full they are when they go is a matter of who is faster
    Largest = lists:max([length(Rs) || {coop_batch, _, Rs} <- Messages]),
    {true, _} = {Largest > 1 andalso Largest =< 10, Largest},
    stop(Coop),
    stop(Next).

%% A task of a VM that is killed by a signal cannot, as it does not trap.
a_batch_survives_its_node(Config) ->
    Coop = start(Config, #{batch => 100}),
    Z = pid(Coop, z),
    ok = sys:suspend(Z),
    {_, Home} = proplists:get_value(homes, Config),
    Last =
        case Home of
            native -> {wait, self()};
            vm -> crash
        end,
    %% `a' must not wait
    [Z ! D || D <- lists:seq(1, 5) ++ [Last]],
    ok = sys:resume(Z),
    case Home of
        native ->
            receive
                {waiting, Z} -> exit(Z, boom)
            after ?LIMIT -> ct:fail(gate_not_reached)
            end;
        vm ->
            ok
    end,
    [{'EXIT', Coop, _}, {coop_batch, Coop, [1, 2, 3, 4, 5]}] = lists:keysort(1, take(2)).

%%% Demand

results_wait_until_asked_for(Config) ->
    Coop = start(Config, #{receiver => {demand, self()}}),
    [ok = coop:relay_data(Coop, I) || I <- lists:seq(1, 10)],
    eventually(one_ready, fun() -> demand(Coop) =:= #{asked => 0, ready => 1} end),
    {error, timeout} = coop:flush(Coop, 0),
    [] = mailbox(),
    ok = coop:ask(Coop, 3),
    [1, 2, 3] = take(3),
    ok = coop:ask(Coop, 2),
    ok = coop:ask(Coop, 2),
    [4, 5, 6, 7] = take(4),
    eventually(one_ready, fun() -> demand(Coop) =:= #{asked => 0, ready => 1} end),
    [] = mailbox(),
    ok = coop:ask(Coop, 100),
    [8, 9, 10, {'$coop', flushed, _, 1}] = take(4),
    ok = coop:flush(Coop, ?LIMIT),
    #{asked := 97, ready := 0} = demand(Coop),
    [ok = coop:relay_data(Coop, I) || I <- [11, 12]],
    [11, 12] = take(2),
    {ok, x} = coop:call(Coop, x, ?LIMIT),
    #{receiver := {demand, Self}} = info(Coop, z),
    Self = self(),
    stop(Coop).

demand(Coop) ->
    maps:get(demand, coop:info(Coop)).

results_are_asked_for_in_batches(Config) ->
    Coop = start(Config, #{receiver => {demand, self()}, batch => 20, tag => t}),
    ok = coop:relay_batch(Coop, lists:seq(1, 50)),
    eventually(batch_ready, fun() -> demand(Coop) =:= #{asked => 0, ready => 20} end),
    ok = coop:ask(Coop, 5),
    [{t, {coop_batch, Coop, [1, 2, 3, 4, 5]}}] = take(1),
    eventually(batch_ready, fun() -> demand(Coop) =:= #{asked => 0, ready => 20} end),
    ok = coop:ask(Coop, 100),
    ok = coop:flush(Coop, ?LIMIT),
    Rest = unbatched(Coop, [M || {t, M} <- mailbox()]),
    Rest = lists:seq(6, 50),
    stop(Coop).

results_that_are_ready_leave_a_suspended_node(Config) ->
    Coop = start(Config, #{receiver => {demand, self()}, batch => 20}),
    ok = coop:relay_batch(Coop, [a, b, c]),
    eventually(all_ready, fun() -> demand(Coop) =:= #{asked => 0, ready => 3} end),
    ok = sys:suspend(pid(Coop, z)),
    ok = coop:ask(Coop, 2),
    ok = coop:ask(Coop, 1),
    [a, b, c] = unbatched(Coop, take(2)),
    stop(Coop).

nodes_of_the_last_tier_share_what_is_asked_for(Config) ->
    process_flag(trap_exit, true),
    {First, Last} = proplists:get_value(homes, Config),
    %% of even numbers one makes even ones, the other odd ones
    [X, Y] =
        case Last of
            native ->
                [coop:native(x, sums, same, #{}), coop:native(y, sums, plus1, #{})];
            vm ->
                [
                    coop:task(x, fun(S, D) -> {S, D} end, #{}),
                    coop:task(y, fun(S, D) -> {S, D + 1} end, #{})
                ]
        end,
    {ok, Coop} = coop:start_link(
        coop_flow:fanout(one(First, a), [X, Y], none),
        #{node => ?C_NODE, receiver => {demand, self()}, batch => 20}
    ),
    Data = lists:seq(2, 200, 2),
    ok = coop:relay_batch(Coop, Data),
    eventually(both_ready, fun() -> demand(Coop) =:= #{asked => 0, ready => 40} end),
    ok = coop:ask(Coop, 20),
    Halves = unbatched(Coop, take(2)),
    10 = length([D || D <- Halves, D rem 2 =:= 0]),
    10 = length([D || D <- Halves, D rem 2 =:= 1]),
    ok = coop:ask(Coop, 1000),
    ok = coop:flush(Coop, ?LIMIT),
    All = Halves ++ unbatched(Coop, mailbox()),
    Data = [D || D <- All, D rem 2 =:= 0],
    Data = [D - 1 || D <- All, D rem 2 =:= 1],
    stop(Coop).

results_for_one_who_asked_and_died_go_nowhere(Config) ->
    {Pid, Ref} = spawn_monitor(fun() ->
        receive
            stop -> ok
        end
    end),
    Coop = start(Config, #{receiver => {demand, Pid}}),
    ok = coop:relay_batch(Coop, lists:seq(1, 2000)),
    eventually(one_ready, fun() -> demand(Coop) =:= #{asked => 0, ready => 1} end),
    Pid ! stop,
    normal = down(Ref),
    ok = coop:flush(Coop, ?LIMIT),
    #{asked := infinity, ready := 0} = demand(Coop),
    {ok, x} = coop:call(Coop, x, ?LIMIT),
    #{in := 2001} = info(Coop, z),
    stop(Coop).

a_coop_that_nobody_may_ask_ignores_it(Config) ->
    Coop = start(Config, #{}),
    ok = coop:ask(Coop, 5),
    {ok, x} = coop:call(Coop, x, ?LIMIT),
    false = is_map_key(demand, coop:info(Coop)),
    {error, noproc} = coop:ask(no_such_coop, 1),
    stop(Coop).

%%% Receivers

a_receiver_on_a_vm_without_erlangsp_is_unmetered(Config) ->
    {_, Node} = Peer = esp_test_c_node:start_peer(receives),
    N = 5000,
    pong = erpc:call(Node, net_adm, ping, [esp_node:node(?C_NODE)]),
    [
        begin
            Prepare(),
            Counter = erpc:call(Node, ?MODULE, start_counter, []),
            Coop = start(Config, #{receiver => Counter, window => 100}),
            ok = coop:relay_batch(
                Coop, [{coop_dead_letter, I, as, {'if'}, it_were} || I <- lists:seq(1, N)]
            ),
            ok = coop:flush(Coop, ?LIMIT),
            #{receiver := {Kind, Counter}} = info(Coop, z),
            eventually(all_results, fun() ->
                case erpc:call(Node, ?MODULE, count, [Counter]) of
                    N -> true;
                    Other -> Other
                end
            end),
            stop(Coop)
        end
     || {Kind, Prepare} <- [
            {unmetered, fun() -> ok end},
            {metered, fun() ->
                {ok, _} = erpc:call(Node, application, ensure_all_started, [erlangsp])
            end}
        ]
    ],
    esp_test_c_node:stop_peer(Peer).
