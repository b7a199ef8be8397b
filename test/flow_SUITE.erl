%% What becomes of data that are too many: dead letters, and the policies of
%% `overload'. Each case runs on co-ops of two nodes, `a' and `z', in every
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
        a_call_whose_datum_is_dropped_hears_of_it,
        sojourn_drops_what_has_waited
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
    #{nodes := Nodes} = coop:info(Coop),
    {Name, Pid} = lists:keyfind(Name, 1, Nodes),
    Pid.

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
    {ok, x} = coop:call(Coop, x, ?LIMIT),
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
    #{overload := drop_oldest, overloaded := Dropped, dropped := Dropped, dead_lettered := Dropped} =
        coop:info(Coop),
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
