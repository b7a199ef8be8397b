%% What becomes of data that are too many: dead letters. Each case runs on
%% co-ops of two nodes, `a' and `z', in every combination of homes.
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
        a_dead_letter_on_a_node_that_does_not_read_is_counted
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
