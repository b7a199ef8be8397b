%% Nodes made while their co-op runs: the workers of a `consume', and those that a
%% task starts (doc/dataflow.md).
-module(late_SUITE).

-export([all/0, groups/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([hand/2, boss/2, init_hand/1, flush_hand/1]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, take/1, mailbox/0, monitors/1, down/1, pid/2]).

-define(C_NODE, t_late).
-define(LIMIT, 20_000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        {group, Group}
     || Group <- [
            consume_vm,
            consume_native,
            consume_vm_to_native,
            consume_native_to_vm,
            start_vm,
            start_native
        ]
    ] ++ [consume_with_nothing_more_has_numbers_of_its_own, mistakes_are_named_before_the_start].

groups() ->
    [
        {Group, [], consume()}
     || Group <- [consume_vm, consume_native, consume_vm_to_native, consume_native_to_vm]
    ] ++
        [
            {start_vm, [],
                start() ++
                    [what_cannot_be_started_is_an_error, a_cache_has_a_process_for_each_key]},
            {start_native, [], start() ++ [what_cannot_be_started_is_refused]}
        ].

consume() ->
    [
        each_worker_is_used_once,
        workers_are_there_before_the_data,
        a_used_worker_is_gone,
        more_are_made_when_few_are_left,
        a_flush_waits_for_workers,
        what_comes_behind_a_flush_waits_until_workers_are_done,
        no_more_than_a_window_are_at_work,
        a_worker_that_waits_keeps_no_other_from_its_work,
        a_workers_flush_follows_its_datum,
        a_result_finds_its_caller,
        workers_may_be_the_last_tier,
        a_worker_may_end_with_normal,
        the_end_of_a_worker_is_that_of_the_co_op,
        the_kill_of_an_unused_worker_is_that_of_the_co_op,
        the_normal_end_of_an_unused_worker_too,
        sys_may_end_a_worker_in_order,
        a_worker_may_have_many_results,
        no_slab_is_ordered_twice,
        strangers_cannot_disturb_it,
        a_stop_leaves_no_worker,
        an_init_that_fails_at_first_fails_the_start,
        an_init_that_fails_later_ends_the_co_op,
        a_slow_receiver_bounds_the_workers
    ].

start() ->
    [
        a_started_node_gets_what_it_is_sent_in_order,
        its_results_go_where_its_makers_go,
        it_may_be_of_the_last_tier,
        a_flush_waits_for_started_nodes,
        what_comes_behind_a_flush_waits_for_started_nodes,
        a_stopped_node_does_what_it_was_sent_before,
        a_stopped_node_ends_those_that_it_has_started,
        what_one_that_is_gone_is_sent_is_dropped,
        one_that_ends_itself_ends_those_that_it_has_started,
        one_that_ends_itself_is_waited_for_by_a_flush,
        a_node_started_by_a_flush_is_waited_for_by_it,
        a_full_edge_holds_its_maker,
        the_end_of_a_started_node_is_that_of_the_co_op,
        one_that_ends_with_normal_is_gone,
        started_nodes_end_with_the_co_op,
        nodes_may_start_nodes,
        a_task_knows_its_head,
        an_init_that_fails_is_an_error,
        thousands_come_and_go
    ].

init_per_suite(Config) ->
    [{c_node, esp_test_c_node:start(?C_NODE)} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

%% The homes of the router and of the workers.
init_per_group(consume_vm, Config) -> [{homes, {vm, vm}} | Config];
init_per_group(consume_native, Config) -> [{homes, {native, native}} | Config];
init_per_group(consume_vm_to_native, Config) -> [{homes, {vm, native}} | Config];
init_per_group(consume_native_to_vm, Config) -> [{homes, {native, vm}} | Config];
init_per_group(start_vm, Config) -> [{homes, {vm, vm}} | Config];
init_per_group(start_native, Config) -> [{homes, {native, native}} | Config].

end_per_group(_, _) -> ok.

%%% Tasks; of test/plugins/crew.cpp on a C-node

init_hand({fail, _}) ->
    error(no_hand);
init_hand({slow, Pid}) ->
    wait_for_go(Pid);
init_hand(Args) ->
    Args.

hand(_, {exit, Reason}) -> exit(Reason);
hand(S, {wait, Pid}) -> {S, wait_for_go(Pid)};
hand(S, D) -> {S, {self(), D}}.

flush_hand(flushes) -> {flushes, {self(), flush}};
flush_hand(S) -> {S}.

wait_for_go(Pid) ->
    Pid ! {waiting, self()},
    receive
        {go, Result} -> Result
    end.

boss(S, {start, From, Name, Task, Args}) ->
    From ! {started, coop:start_node(vm_node(Name, Task, Args, #{}))},
    {S};
boss(S, {to, Node, D}) ->
    {S, to, [{Node, D}]};
boss(S, {stop, Node}) ->
    ok = coop:stop_node(Node),
    {S};
boss(_, {quit, Reason}) ->
    exit(Reason);
boss(S, {head, From}) ->
    From ! {head, coop:head()},
    {S};
boss(S, D) ->
    {S, D}.

vm_node(Name, boss, _Args, More) ->
    coop:task(Name, {?MODULE, boss}, More);
vm_node(Name, hand, Args, More) ->
    Options = #{init => {?MODULE, init_hand, [Args]}, flush => fun ?MODULE:flush_hand/1},
    coop:task(Name, {?MODULE, hand}, maps:merge(Options, More)).

crew(vm, Name, Task, Args, More) -> vm_node(Name, Task, Args, More);
crew(native, Name, Task, Args, More) -> coop:native(Name, crew, Task, More#{args => Args}).

%% Counts data in stretches between flushes: {total, N}.
counter() ->
    coop:task(counter, fun(N, D) -> {N + 1, D} end, #{
        init => fun() -> 0 end, flush => fun(N) -> {0, {total, N}} end
    }).

%%% Helpers

start(T, More) ->
    process_flag(trap_exit, true),
    {ok, Coop} = coop:start_link(T, maps:merge(#{node => ?C_NODE, receiver => self()}, More)),
    Coop.

stop(Coop) ->
    ok = coop:stop(Coop),
    [{'EXIT', Coop, normal}] = mailbox(),
    ok.

router(Config, Slab) ->
    {Home, _} = proplists:get_value(homes, Config),
    crew(Home, router, boss, undefined, #{dataflow => {consume, Slab}}).

worker(Config, Args) ->
    {_, Home} = proplists:get_value(homes, Config),
    crew(Home, worker, hand, Args, #{}).

pool(Config, Slab) -> pool(Config, Slab, undefined).
pool(Config, Slab, Args) -> coop_flow:pipeline([router(Config, Slab), worker(Config, Args)]).

counted(Config, Slab) ->
    coop_flow:pipeline([router(Config, Slab), worker(Config, undefined), counter()]).

info(Coop, Name, Key) ->
    maps:get(Key, coop_process:ask(pid(Coop, Name), info, ?LIMIT)).

workers(Coop) -> info(Coop, router, workers).

relay(Coop, Data) ->
    ok = coop:relay_batch(Coop, Data).

%% So many workers in hand, each of which has asked for its go.
waiting(Coop, N) ->
    relay(Coop, [{wait, self()} || _ <- lists:seq(1, N)]),
    [Pid || {waiting, Pid} <- take(N)].

go(Pids) ->
    [Pid ! {go, {Pid, went}} || Pid <- Pids],
    ok.

%% A flush in a process of its own, which says when it is done.
flushing(Coop) ->
    Self = self(),
    Ref = make_ref(),
    Pid = spawn_link(fun() -> Self ! {Ref, coop:flush(Coop, ?LIMIT)} end),
    {Pid, Ref}.

flushed({Pid, Ref}) ->
    receive
        {Ref, Result} ->
            receive
                {'EXIT', Pid, normal} -> Result
            end
    after ?LIMIT -> ct:fail(not_flushed)
    end.

all_down(Monitors) ->
    [down(Ref) || Ref <- Monitors].

%%% Consume

each_worker_is_used_once(Config) ->
    Coop = start(pool(Config, {10, 3, 5}), #{}),
    Data = lists:seq(1, 300),
    relay(Coop, Data),
    ok = coop:flush(Coop, ?LIMIT),
    Got = take(300),
    Data = lists:sort([D || {_, D} <- Got]),
    300 = length(lists:usort([Pid || {Pid, _} <- Got])),
    #{busy := 0, done := 300} = workers(Coop),
    stop(Coop).

workers_are_there_before_the_data(Config) ->
    Coop = start(pool(Config, {7, 3, 5}), #{}),
    #{fresh := 7, busy := 0, done := 0} = workers(Coop),
    stop(Coop).

a_used_worker_is_gone(Config) ->
    Coop = start(pool(Config, {3, 1, 1}), #{}),
    [Pid] = waiting(Coop, 1),
    [Monitor] = monitors([Pid]),
    go([Pid]),
    [{Pid, went}] = take(1),
    normal = down(Monitor),
    stop(Coop).

more_are_made_when_few_are_left(Config) ->
    Coop = start(pool(Config, {4, 1, 10}), #{}),
    Two = waiting(Coop, 2),
    #{fresh := 2, busy := 2} = workers(Coop),
    One = waiting(Coop, 1),
    eventually(replenished, fun() -> maps:get(fresh, workers(Coop)) =:= 11 end),
    go(Two ++ One),
    ok = coop:flush(Coop, ?LIMIT),
    3 = length(take(3)),
    #{fresh := 11, done := 3} = workers(Coop),
    stop(Coop).

a_flush_waits_for_workers(Config) ->
    Coop = start(counted(Config, {5, 2, 5}), #{}),
    Pids = waiting(Coop, 4),
    Ref = make_ref(),
    %% as coop:flush/2 does, but by this process, so that what is relayed next is
    %% behind it
    Coop ! {'$coop', flush, {self(), Ref}},
    relay(Coop, [behind]),
    go(tl(Pids)),
    3 = length(take(3)),
    [] = mailbox(),
    go([hd(Pids)]),
    [{_, went}, {total, 4}, {'$coop', flushed, Ref, 1}, {_, behind}] = take(4),
    ok = coop:flush(Coop, ?LIMIT),
    [{total, 1}] = mailbox(),
    stop(Coop).

what_comes_behind_a_flush_waits_until_workers_are_done(Config) ->
    Coop = start(counted(Config, {20, 10, 20}), #{}),
    Totals = [N || N <- lists:seq(1, 30), N rem 7 < 5],
    Flushes = [
        begin
            relay(Coop, lists:seq(1, N)),
            flushing(Coop)
        end
     || N <- Totals
    ],
    [ok = flushed(Flush) || Flush <- Flushes],
    ok = coop:flush(Coop, ?LIMIT),
    %% flushes of several processes have no order among the data of this one, but
    %% none comes between the data of one message
    Got = mailbox(),
    Sum = lists:sum(Totals),
    Sum = lists:sum([N || {total, N} <- Got]),
    Sum = length([D || {_, D} = R <- Got, element(1, R) =/= total, is_integer(D)]),
    Sum = count_stretches(Got, 0, 0),
    stop(Coop).

%% Each total is that of the results since the last one.
count_stretches([], 0, All) -> All;
count_stretches([{total, N} | Rest], N, All) -> count_stretches(Rest, 0, All + N);
count_stretches([{Pid, _} | Rest], N, All) when is_pid(Pid) -> count_stretches(Rest, N + 1, All).

no_more_than_a_window_are_at_work(Config) ->
    Coop = start(pool(Config, {10, 5, 10}), #{window => 3}),
    relay(Coop, [{wait, self()} || _ <- lists:seq(1, 8)]),
    Three = [Pid || {waiting, Pid} <- take(3)],
    eventually(more_wait, fun() -> info(Coop, router, in) >= 3 end),
    #{busy := 3} = workers(Coop),
    [] = mailbox(),
    go(Three),
    Five = go_on(5, []),
    8 = length(lists:usort(Three ++ Five)),
    ok = coop:flush(Coop, ?LIMIT),
    8 = length(mailbox_after(Three ++ Five)),
    stop(Coop).

go_on(0, Pids) ->
    Pids;
go_on(N, Pids) ->
    receive
        {waiting, Pid} ->
            go([Pid]),
            go_on(N - 1, [Pid | Pids])
    after ?LIMIT -> ct:fail({waited_in_vain_for, N})
    end.

mailbox_after(Pids) ->
    [receive {Pid, went} -> Pid after ?LIMIT -> ct:fail(no_result) end || Pid <- Pids].

a_worker_that_waits_keeps_no_other_from_its_work(Config) ->
    Coop = start(pool(Config, {4, 2, 4}), #{}),
    [Slow] = waiting(Coop, 1),
    relay(Coop, lists:seq(1, 50)),
    50 = length(take(50)),
    go([Slow]),
    ok = coop:flush(Coop, ?LIMIT),
    [{Slow, went}] = mailbox(),
    stop(Coop).

a_workers_flush_follows_its_datum(Config) ->
    Coop = start(pool(Config, {2, 1, 2}, flushes), #{}),
    relay(Coop, [a, b, c]),
    ok = coop:flush(Coop, ?LIMIT),
    Got = mailbox(),
    [a, b, c] = lists:sort([D || {_, D} <- Got, D =/= flush]),
    [[D, flush] = [X || {P, X} <- Got, P =:= Pid] || {Pid, D} <- Got, D =/= flush],
    stop(Coop).

a_result_finds_its_caller(Config) ->
    Coop = start(counted(Config, {2, 1, 2}), #{}),
    [{ok, {_, N}} = coop:call(Coop, N, ?LIMIT) || N <- lists:seq(1, 20)],
    [] = mailbox(),
    stop(Coop).

workers_may_be_the_last_tier(Config) ->
    Coop = start(pool(Config, {5, 2, 3}), #{tag => here, batch => 3}),
    relay(Coop, lists:seq(1, 40)),
    ok = coop:flush(Coop, ?LIMIT),
    Got = mailbox(),
    Results = lists:append([Rs || {here, {coop_batch, C, Rs}} <- Got, C =:= Coop]),
    40 = length(Results),
    stop(Coop).

a_worker_may_end_with_normal(Config) ->
    Coop = start(counted(Config, {3, 1, 2}), #{}),
    relay(Coop, [a, {exit, normal}, b, {exit, normal}, {exit, normal}, c]),
    ok = coop:flush(Coop, ?LIMIT),
    [a, b, c] = lists:sort([D || {P, D} <- mailbox(), P =/= total]),
    #{busy := 0, done := 6} = workers(Coop),
    stop(Coop).

the_end_of_a_worker_is_that_of_the_co_op(Config) ->
    Coop = start(pool(Config, {3, 1, 2}), #{}),
    Monitors = monitors(esp_test_lib:pids(Coop)),
    relay(Coop, [{exit, enough}]),
    receive
        {'EXIT', Coop, enough} -> ok
    after ?LIMIT -> ct:fail(still_there)
    end,
    _ = all_down(Monitors),
    ok.

the_kill_of_an_unused_worker_is_that_of_the_co_op(Config) ->
    Self = self(),
    Coop = start(pool(Config, {1, 0, 1}, {slow, Self}), #{start_timeout => ?LIMIT}, fun go_first/0),
    [Pid] = waiting_first(),
    exit(Pid, kill),
    receive
        {'EXIT', Coop, killed} -> ok
    after ?LIMIT -> ct:fail(still_there)
    end.

the_normal_end_of_an_unused_worker_too(Config) ->
    Coop = start(pool(Config, {1, 0, 1}, {slow, self()}), #{}, fun go_first/0),
    [Pid] = waiting_first(),
    Pid ! {exit, normal},
    receive
        {'EXIT', Coop, {unused, normal}} -> ok
    after ?LIMIT -> ct:fail(still_there)
    end.

sys_may_end_a_worker_in_order(Config) ->
    Coop = start(counted(Config, {2, 1, 2}), #{window => 1}),
    [Pid] = waiting(Coop, 1),
    relay(Coop, [next]),
    Terminator = spawn_link(fun() -> ok = sys:terminate(Pid, normal) end),
    go([Pid]),
    ok = coop:flush(Coop, ?LIMIT),
    receive
        {'EXIT', Terminator, _} -> ok
    after ?LIMIT -> ct:fail(terminator_waits)
    end,
    2 = length([R || {P, R} <- mailbox(), P =/= total]),
    stop(Coop).

%% More than its window, into a node of each home, and with as few workers as may
%% be when its receivers are only just being wired.
a_worker_may_have_many_results(Config) ->
    {_, Home} = proplists:get_value(homes, Config),
    Many =
        case Home of
            vm -> coop:task(worker, fun(S, N) -> {S, many, lists:seq(1, N)} end, #{});
            native -> coop:native(worker, routes, up_to, #{})
        end,
    [
        begin
            Join = crew(JoinHome, join, hand, undefined, #{}),
            Coop = start(coop_flow:pipeline([router(Config, {1, 5, 2}), Many, Join]), #{}),
            relay(Coop, lists:duplicate(20, 30)),
            ok = coop:flush(Coop, ?LIMIT),
            600 = length(mailbox()),
            stop(Coop)
        end
     || JoinHome <- [vm, native]
    ],
    ok.

no_slab_is_ordered_twice(Config) ->
    Coop = start(pool(Config, {1, 40, 30}), #{}),
    eventually(filled, fun() -> maps:get(fresh, workers(Coop)) > 40 end),
    relay(Coop, lists:seq(1, 5)),
    ok = coop:flush(Coop, ?LIMIT),
    5 = length(mailbox()),
    #{fresh := Fresh} = workers(Coop),
    {true, _} = {Fresh =< 40 + 30, Fresh},
    stop(Coop).

%% Who knows the numbers of edges may still do no more than be ignored.
strangers_cannot_disturb_it(Config) ->
    Coop = start(counted(Config, {2, 1, 2}), #{}),
    Router = pid(Coop, router),
    Counter = pid(Coop, counter),
    Switches = maps:get(switches, coop:info(Coop)),
    Forged =
        [{Router, {'$coop', Word, Edge}} || Word <- [last, passed, done], Edge <- [1, 2, 3, -1, x, 16#FFFFFFFF]] ++
        [{Router, {'$coop', credit, 1, 5}}, {Router, {'$coop', fresh, 1, [foo]}}] ++
        [{Router, {'$coop', fresh, 1, foo}}, {Router, {'$coop', fresh, 7, [self()]}}] ++
        [
            {Counter, {'$coop', join, Pid, Edge, Barred, Units}}
         || {Pid, Edge, Barred, Units} <- [
                {self(), 2, 2, 1}, {foo, 9, 2, 1}, {self(), x, 2, 1}, {self(), 9, 77, 1},
                {self(), 9, x, 1}, {self(), 9, 2, -1}, {self(), 16#FFFFFFFF, 2, 1}
            ]
        ] ++
        [
            {Switch, Message}
         || Switch <- Switches,
            Message <- [
                {'$coop', more, self(), 1},
                {'$coop', more, foo, 1},
                {'$coop', more, Router, 99},
                {'$coop', mark, foo, bar},
                {'$coop', initialized, self(), foo},
                {'$coop', {self(), make_ref()}, {start_node, foo, bar}}
            ]
        ],
    [Pid ! Message || {Pid, Message} <- Forged],
    relay(Coop, lists:seq(1, 50)),
    ok = coop:flush(Coop, ?LIMIT),
    Got = mailbox(),
    {50, 50} = {
        length([D || {P, D} <- Got, is_pid(P), is_integer(D)]), lists:sum([N || {total, N} <- Got])
    },
    #{fresh := Fresh} = workers(Coop),
    {true, _} = {Fresh =< 3, Fresh},
    stop(Coop).

%% Starts it in a process that lets the first worker go.
start(T, More, Meanwhile) ->
    Helper = spawn_link(Meanwhile),
    T2 = T#{nodes := [slow_to(Helper, Node) || Node <- maps:get(nodes, T)]},
    Coop = start(T2, More),
    receive
        {'EXIT', Helper, {first, Pid}} -> self() ! {first, Pid}
    after ?LIMIT -> ct:fail(no_first)
    end,
    Coop.

slow_to(Helper, Node = #{options := Options}) ->
    case Options of
        #{args := {slow, _}} -> Node#{options := Options#{args := {slow, Helper}}};
        #{init := {M, F, [{slow, _}]}} -> Node#{options := Options#{init := {M, F, [{slow, Helper}]}}};
        _ -> Node
    end.

go_first() ->
    receive
        {waiting, Pid} ->
            Pid ! {go, on},
            exit({first, Pid})
    end.

waiting_first() ->
    receive
        {first, Pid} -> [Pid]
    end.

a_stop_leaves_no_worker(Config) ->
    Coop = start(pool(Config, {50, 10, 50}), #{}),
    Pids = waiting(Coop, 20),
    Monitors = monitors(Pids),
    Switches = monitors(maps:get(switches, coop:info(Coop))),
    ok = coop:stop(Coop, shutdown),
    %% a switch ends when all its nodes have
    _ = all_down(Switches),
    [shutdown = Reason || Reason <- all_down(Monitors)],
    [{'EXIT', Coop, shutdown}] = mailbox(),
    ok.

an_init_that_fails_at_first_fails_the_start(Config) ->
    process_flag(trap_exit, true),
    T = pool(Config, {3, 1, 2}, {fail, now}),
    {error, {init, worker, _}} = coop:start_link(T, #{node => ?C_NODE}),
    [] = mailbox(),
    ok.

an_init_that_fails_later_ends_the_co_op(Config) ->
    Table = ets:new(late, [public]),
    Key = {?MODULE, failing},
    persistent_term:put(Key, Table),
    {_, Home} = proplists:get_value(homes, Config),
    {Worker, Reason} =
        case Home of
            vm ->
                {coop:task(worker, fun(S, D) -> {S, D} end, #{init => fun() -> third_fails(Table) end}),
                    third};
            native ->
                {coop:native(worker, crew, third_fails, #{args => self()}), third}
        end,
    Coop = start(coop_flow:pipeline([router(Config, {2, 0, 1}), Worker]), #{}),
    relay(Coop, [a, b]),
    receive
        {'EXIT', Coop, {init, worker, Why}} ->
            {_, true} = {Why, contains(Reason, Why)}
    after ?LIMIT -> ct:fail(still_there)
    end,
    persistent_term:erase(Key).

third_fails(Table) ->
    ets:update_counter(Table, n, 1, {n, 0}) < 3 orelse error(third),
    undefined.

contains(Word, Term) ->
    string:find(io_lib:format("~tp", [Term]), atom_to_list(Word)) =/= nomatch.

%% Results of workers have credit, too: a receiver that does not read stops them.
a_slow_receiver_bounds_the_workers(Config) ->
    Self = self(),
    Receiver = spawn_link(fun() ->
        receive
            read -> Self ! {read, length(mailbox_until(Self))}
        end
    end),
    Coop = start(pool(Config, {4, 2, 4}), #{receiver => Receiver, window => 10}),
    Sender = spawn_link(fun() -> coop:relay_batch(Coop, lists:seq(1, 500)) end),
    eventually(stopped, fun() ->
        #{busy := Busy, fresh := Fresh} = workers(Coop),
        Busy =:= 10 andalso Fresh >= 2 andalso info(Coop, router, blocked)
    end),
    {message_queue_len, N} = process_info(Receiver, message_queue_len),
    {true, _} = {N < 100, N},
    Receiver ! read,
    receive
        {'EXIT', Sender, normal} -> ok
    after ?LIMIT -> ct:fail(sender_waits)
    end,
    ok = coop:flush(Coop, ?LIMIT),
    Receiver ! {done, Self},
    receive
        {read, 500} -> ok
    after ?LIMIT -> ct:fail(results_lost)
    end,
    receive
        {'EXIT', Receiver, normal} -> ok
    end,
    stop(Coop).

mailbox_until(Self) ->
    receive
        {done, Self} -> mailbox();
        Result -> [Result | mailbox_until(Self)]
    end.

consume_with_nothing_more_has_numbers_of_its_own(_Config) ->
    T = coop_flow:pipeline([
        coop:task(router, fun(S, D) -> {S, D} end, #{dataflow => consume}),
        coop:task(worker, fun(S, D) -> {S, D} end, #{})
    ]),
    Coop = start(T, #{}),
    #{fresh := 64} = workers(Coop),
    relay(Coop, lists:seq(1, 100)),
    ok = coop:flush(Coop, ?LIMIT),
    100 = length(mailbox()),
    stop(Coop).

mistakes_are_named_before_the_start(_Config) ->
    Nodes = fun(How) ->
        [
            [
                crew(Home, r, boss, undefined, #{dataflow => How}),
                crew(Home, w, hand, undefined, #{}),
                crew(Home, x, hand, undefined, #{})
            ]
         || Home <- [vm, native]
        ]
    end,
    Error = fun(How, Edges, Options) ->
        [E, E] = [
            coop:start_link(coop_flow:graph(N, Edges), Options#{node => ?C_NODE})
         || N <- Nodes(How)
        ],
        E
    end,
    Slab = {consume, {1, 0, 1}},
    {error, {bad_node, r, {consume_needs, one_downstream}}} =
        Error(Slab, [{r, w}, {r, x}], #{}),
    {error, {bad_node, r, {consume_needs, one_downstream}}} = Error(Slab, [{w, x}], #{}),
    {error, {bad_node, w, {consume_needs, one_upstream}}} =
        Error(Slab, [{r, w}, {x, w}], #{}),
    {error, {unsupported, restart}} = Error(Slab, [{r, w}], #{restart => body}),
    [
        {error, {bad_node, r, {bad_dataflow, Bad}}} = Error(Bad, [{r, w}], #{})
     || Bad <- [{consume, {0, 0, 1}}, {consume, {1, -1, 1}}, {consume, {1, 0, 0}}, {consume, 7}]
    ],
    Nested = coop_flow:pipeline([
        crew(vm, r, boss, undefined, #{dataflow => Slab}),
        crew(vm, w, boss, undefined, #{dataflow => Slab}),
        crew(vm, x, hand, undefined, #{})
    ]),
    {error, {bad_node, w, {consume_needs, other_dataflow}}} = coop:start_link(Nested, #{}),
    [] = mailbox(),
    ok.

%%% Nodes started by tasks

boss_node(Config) ->
    {Home, _} = proplists:get_value(homes, Config),
    crew(Home, boss, boss, undefined, #{}).

started(Coop, Task, Args) ->
    ok = coop:relay_data(Coop, {start, self(), late, Task, Args}),
    receive
        {started, Result} -> Result
    after ?LIMIT -> ct:fail(not_started)
    end.

start_hand(Coop) ->
    {ok, Pid} = started(Coop, hand, undefined),
    Pid.

a_started_node_gets_what_it_is_sent_in_order(Config) ->
    Coop = start(coop_flow:pipeline([boss_node(Config)]), #{window => 10}),
    Pid = start_hand(Coop),
    Data = lists:seq(1, 500),
    relay(Coop, [{to, Pid, D} || D <- Data]),
    ok = coop:flush(Coop, ?LIMIT),
    [{Pid, D} || D <- Data] =:= mailbox() orelse ct:fail(other_order),
    Pid ! plain,
    [{Pid, plain}] = take(1),
    stop(Coop).

its_results_go_where_its_makers_go(Config) ->
    [
        begin
            Join = crew(Home, join, hand, undefined, #{}),
            Coop = start(coop_flow:pipeline([boss_node(Config), Join]), #{}),
            Pid = start_hand(Coop),
            relay(Coop, [{to, Pid, a}, b]),
            ok = coop:flush(Coop, ?LIMIT),
            Joined = pid(Coop, join),
            [{Joined, b}, {Joined, {Pid, a}}] = lists:sort(mailbox()),
            stop(Coop)
        end
     || Home <- [vm, native]
    ],
    ok.

it_may_be_of_the_last_tier(Config) ->
    Coop = start(coop_flow:pipeline([boss_node(Config)]), #{tag => out}),
    Pid = start_hand(Coop),
    relay(Coop, [{to, Pid, a}]),
    [{out, {Pid, a}}] = take(1),
    {ok, {Pid, b}} = coop:call(Coop, {to, Pid, b}, ?LIMIT),
    stop(Coop).

a_flush_waits_for_started_nodes(Config) ->
    Coop = start(coop_flow:pipeline([boss_node(Config), counter()]), #{}),
    {ok, Pid} = started(Coop, hand, flushes),
    relay(Coop, [{to, Pid, {wait, self()}}]),
    [{waiting, Pid}] = take(1),
    Flush = flushing(Coop),
    eventually(flush_at_boss, fun() -> info(Coop, boss, in) =:= 2 end),
    [] = mailbox(),
    go([Pid]),
    ok = flushed(Flush),
    [{Pid, went}, {Pid, flush}, {total, 2}] = mailbox(),
    stop(Coop).

what_comes_behind_a_flush_waits_for_started_nodes(Config) ->
    Coop = start(coop_flow:pipeline([boss_node(Config), counter()]), #{}),
    Pids = [start_hand(Coop) || _ <- lists:seq(1, 5)],
    Flushes = [
        begin
            relay(Coop, [{to, Pid, D} || Pid <- Pids, D <- lists:seq(1, N)] ++ [plain]),
            flushing(Coop)
        end
     || N <- lists:seq(1, 10)
    ],
    [ok = flushed(Flush) || Flush <- Flushes],
    ok = coop:flush(Coop, ?LIMIT),
    Got = [case R of plain -> {self(), plain}; _ -> R end || R <- mailbox()],
    285 = count_stretches(Got, 0, 0),
    stop(Coop).

a_stopped_node_does_what_it_was_sent_before(Config) ->
    Coop = start(coop_flow:pipeline([boss_node(Config)]), #{}),
    {ok, Pid} = started(Coop, hand, flushes),
    [Monitor] = monitors([Pid]),
    relay(Coop, [{to, Pid, D} || D <- lists:seq(1, 100)] ++ [{stop, Pid}]),
    normal = down(Monitor),
    ok = coop:flush(Coop, ?LIMIT),
    Expected = [{Pid, D} || D <- lists:seq(1, 100)] ++ [{Pid, flush}],
    Expected = mailbox(),
    stop(Coop).

a_stopped_node_ends_those_that_it_has_started(Config) ->
    Coop = start(coop_flow:pipeline([boss_node(Config)]), #{}),
    {ok, Boss} = started(Coop, boss, undefined),
    relay(Coop, [{to, Boss, {start, self(), inner, hand, flushes}}]),
    [{started, {ok, Inner}}] = take(1),
    Monitors = monitors([Boss, Inner]),
    relay(Coop, [{to, Boss, {to, Inner, a}}, {stop, Boss}]),
    [normal, normal] = all_down(Monitors),
    ok = coop:flush(Coop, ?LIMIT),
    [{Inner, a}, {Inner, flush}] = mailbox(),
    stop(Coop).

what_one_that_is_gone_is_sent_is_dropped(Config) ->
    Self = self(),
    Coop = start(coop_flow:pipeline([boss_node(Config)]), #{dead_letter => Self}),
    [Stopped, Ended] = [start_hand(Coop) || _ <- [1, 2]],
    Monitors = monitors([Stopped, Ended]),
    relay(Coop, [{stop, Stopped}, {to, Stopped, a}, {to, Ended, {exit, normal}}]),
    {coop_dead_letter, Coop, boss, a, noproc} = take_first(a),
    [normal, normal] = all_down(Monitors),
    eventually(all_gone, fun() -> not is_map_key(started, boss_info(Coop)) end),
    relay(Coop, [{to, Ended, b}, {to, Self, c}]),
    {error, noproc} = coop:call(Coop, {to, Ended, d}, ?LIMIT),
    ok = coop:flush(Coop, ?LIMIT),
    [{coop_dead_letter, Coop, boss, D, noproc} = take_first(D) || D <- [b, c, d]],
    #{dropped := 4} = boss_info(Coop),
    stop(Coop).

take_first(D) ->
    receive
        {coop_dead_letter, _, _, D, _} = Letter -> Letter
    after ?LIMIT -> ct:fail({no_dead_letter, D})
    end.

boss_info(Coop) -> coop_process:ask(pid(Coop, boss), info, ?LIMIT).

%% One is in its hands, five have credit, and its maker has the one behind.
a_full_edge_holds_its_maker(Config) ->
    Coop = start(coop_flow:pipeline([boss_node(Config)]), #{window => 5}),
    Pid = start_hand(Coop),
    relay(Coop, [{to, Pid, {wait, self()}}]),
    [{waiting, Pid}] = take(1),
    relay(Coop, [{to, Pid, D} || D <- lists:seq(1, 30)]),
    eventually(full, fun() -> maps:get(queue, coop:info(Coop)) > 10 end),
    go([Pid]),
    ok = coop:flush(Coop, ?LIMIT),
    31 = length(mailbox()),
    stop(Coop).

is_native(Config) -> proplists:get_value(homes, Config) =:= {native, native}.

the_end_of_a_started_node_is_that_of_the_co_op(Config) ->
    Coop = start(coop_flow:pipeline([boss_node(Config)]), #{}),
    Pid = start_hand(Coop),
    relay(Coop, [{to, Pid, {exit, enough}}]),
    receive
        {'EXIT', Coop, enough} -> ok
    after ?LIMIT -> ct:fail(still_there)
    end,
    Coop2 = start(coop_flow:pipeline([boss_node(Config)]), #{}),
    exit(start_hand(Coop2), kill),
    receive
        {'EXIT', Coop2, killed} -> ok
    after ?LIMIT -> ct:fail(still_there)
    end.

one_that_ends_with_normal_is_gone(Config) ->
    Coop = start(coop_flow:pipeline([boss_node(Config)]), #{}),
    [Pid, Other] = [start_hand(Coop) || _ <- [1, 2]],
    [Monitor] = monitors([Pid]),
    relay(Coop, [{to, Pid, a}, {to, Pid, {exit, normal}}]),
    normal = down(Monitor),
    eventually(one_left, fun() -> info(Coop, boss, started) =:= 1 end),
    relay(Coop, [{to, Other, b}]),
    ok = coop:flush(Coop, ?LIMIT),
    [{Pid, a}, {Other, b}] = mailbox(),
    stop(Coop).

one_that_ends_itself_ends_those_that_it_has_started(Config) ->
    Coop = start(coop_flow:pipeline([boss_node(Config), counter()]), #{}),
    {ok, Boss} = started(Coop, boss, undefined),
    relay(Coop, [{to, Boss, {start, self(), inner, hand, undefined}}]),
    [{started, {ok, Inner}}] = take(1),
    relay(Coop, [{to, Boss, {to, Inner, {wait, self()}}}]),
    [{waiting, Inner}] = take(1),
    Monitors = monitors([Boss, Inner]),
    relay(Coop, [{to, Boss, {quit, normal}}]),
    go([Inner]),
    [normal, normal] = all_down(Monitors),
    ok = coop:flush(Coop, ?LIMIT),
    [{Inner, went}, {total, 1}] = mailbox(),
    stop(Coop).

one_that_ends_itself_is_waited_for_by_a_flush(Config) ->
    Coop = start(coop_flow:pipeline([boss_node(Config), counter()]), #{}),
    Pid = start_hand(Coop),
    relay(Coop, [{to, Pid, {wait, self()}}, {to, Pid, {exit, normal}}]),
    [{waiting, Pid}] = take(1),
    Ref = make_ref(),
    Coop ! {'$coop', flush, {self(), Ref}},
    relay(Coop, [behind]),
    go([Pid]),
    [{Pid, went}, {total, 1}, {'$coop', flushed, Ref, 1}] = take(3),
    ok = coop:flush(Coop, ?LIMIT),
    [{total, 1}] = [T || {total, _} = T <- mailbox()],
    stop(Coop).

a_node_started_by_a_flush_is_waited_for_by_it(Config) ->
    Self = self(),
    Starter =
        case is_native(Config) of
            true ->
                coop:native(boss, crew, starts_at_flush, #{args => Self});
            false ->
                coop:task(boss, fun(S, D) -> {S, D} end, #{
                    flush => fun(S) ->
                        {ok, Pid} = coop:start_node(vm_node(late, hand, undefined, #{})),
                        {S, to, [{Pid, {wait, Self}}]}
                    end
                })
        end,
    Coop = start(coop_flow:pipeline([Starter, counter()]), #{}),
    Ref = make_ref(),
    Coop ! {'$coop', flush, {Self, Ref}},
    [{waiting, Pid}] = take(1),
    relay(Coop, [behind]),
    [] = mailbox(),
    go([Pid]),
    [{Pid, went}, {total, 1}, {'$coop', flushed, Ref, 1}] = take(3),
    ok = coop:stop(Coop, shutdown),
    ok.

started_nodes_end_with_the_co_op(Config) ->
    Coop = start(coop_flow:pipeline([boss_node(Config)]), #{}),
    Pids = [start_hand(Coop) || _ <- lists:seq(1, 20)],
    Monitors = monitors(Pids),
    ok = coop:stop(Coop, {shutdown, done}),
    [{shutdown, done} = Reason || Reason <- all_down(Monitors)],
    [{'EXIT', Coop, {shutdown, done}}] = mailbox(),
    ok.

nodes_may_start_nodes(Config) ->
    Coop = start(coop_flow:pipeline([boss_node(Config), counter()]), #{}),
    %% each starts the next, ten deep, and the last is a hand
    Wrap = fun(Path, D) -> lists:foldr(fun(Pid, Acc) -> {to, Pid, Acc} end, D, Path) end,
    Path = lists:foldl(
        fun(I, Path) ->
            Task = case I of 10 -> hand; _ -> boss end,
            relay(Coop, [Wrap(Path, {start, self(), late, Task, undefined})]),
            [{started, {ok, Pid}}] = take(1),
            Path ++ [Pid]
        end,
        [],
        lists:seq(1, 10)
    ),
    relay(Coop, [Wrap(Path, D) || D <- lists:seq(1, 100)]),
    ok = coop:flush(Coop, ?LIMIT),
    Last = lists:last(Path),
    Expected = [{Last, D} || D <- lists:seq(1, 100)] ++ [{total, 100}],
    Expected = mailbox(),
    stop(Coop).

a_task_knows_its_head(Config) ->
    Coop = start(coop_flow:pipeline([boss_node(Config)]), #{}),
    relay(Coop, [{head, self()}]),
    [{head, Coop}] = take(1),
    stop(Coop).

an_init_that_fails_is_an_error(Config) ->
    Coop = start(coop_flow:pipeline([boss_node(Config)]), #{}),
    {error, Why} = started(Coop, hand, {fail, now}),
    {_, true} = {Why, contains(hand, Why)},
    {ok, {Pid, a}} = coop:call(Coop, {to, start_hand(Coop), a}, ?LIMIT),
    true = is_pid(Pid),
    stop(Coop).

what_cannot_be_started_is_an_error(_Config) ->
    Self = self(),
    Try = fun(Options, Spec) ->
        Task = fun(S, go) -> Self ! {tried, coop:start_node(Spec)}, {S} end,
        Coop = start(coop_flow:pipeline([coop:task(boss, Task, #{})]), Options),
        relay(Coop, [go]),
        [{tried, Result}] = take(1),
        stop(Coop),
        Result
    end,
    Hand = vm_node(late, hand, undefined, #{}),
    {error, {unsupported, restart}} = Try(#{restart => body}, Hand),
    {error, {bad_node, late, {other_home, native}}} =
        Try(#{}, coop:native(late, crew, hand, #{})),
    {error, {bad_node, late, {bad_option, nonsense}}} =
        Try(#{}, coop:task(late, fun(S, D) -> {S, D} end, #{nonsense => 1})),
    {error, {bad_node, late, {undef, {nobody, nothing, 2}}}} =
        Try(#{}, coop:task(late, {nobody, nothing}, #{})),
    ok = try coop:head() catch error:not_a_task -> ok end.

%% As doc/dataflow.md has it.
cache(Cells, {put, Key, Value}) ->
    {ok, Cell} = coop:start_node(coop:task(cell, fun answer/2, #{init => fun() -> Value end})),
    {Cells#{Key => Cell}};
cache(Cells, {get, Key, From}) ->
    {Cells, to, [{maps:get(Key, Cells), {get, From}}]};
cache(Cells, {drop, Key}) ->
    ok = coop:stop_node(maps:get(Key, Cells)),
    {maps:remove(Key, Cells)}.

answer(Value, {get, From}) ->
    From ! {value, Value},
    {Value}.

a_cache_has_a_process_for_each_key(_Config) ->
    Worker = fun(Name) ->
        coop:task(Name, fun cache/2, #{init => fun() -> #{} end})
    end,
    Directory = coop:task(directory, fun(S, D) -> {S, D} end, #{
        dataflow => {hash, {element, 2}}
    }),
    Coop = start(coop_flow:fanout(Directory, [Worker(N) || N <- [a, b, c]], none), #{}),
    Keys = lists:seq(1, 100),
    relay(Coop, [{put, K, {value_of, K}} || K <- Keys]),
    relay(Coop, [{get, K, self()} || K <- Keys]),
    ok = coop:flush(Coop, ?LIMIT),
    [{value, {value_of, K}} || K <- Keys] =:= lists:sort(mailbox()) orelse ct:fail(other_values),
    relay(Coop, [{drop, K} || K <- Keys]),
    ok = coop:flush(Coop, ?LIMIT),
    Info = [coop_process:ask(pid(Coop, N), info, ?LIMIT) || N <- [a, b, c]],
    [false, false, false] = [is_map_key(started, I) || I <- Info],
    stop(Coop).

what_cannot_be_started_is_refused(Config) ->
    Coop = start(coop_flow:pipeline([boss_node(Config)]), #{restart => body}),
    {error, <<"the co-op has restart => body">>} = started(Coop, hand, undefined),
    stop(Coop),
    Coop2 = start(coop_flow:pipeline([boss_node(Config)]), #{}),
    {error, <<"no task nonsense">>} = started(Coop2, nonsense, undefined),
    stop(Coop2).

thousands_come_and_go(Config) ->
    Before = processes_of(Config),
    Coop = start(coop_flow:pipeline([boss_node(Config), counter()]), #{}),
    relay(Coop, [{start, self(), late, hand, undefined} || _ <- lists:seq(1, 2000)]),
    Pids = [Pid || {started, {ok, Pid}} <- take(2000)],
    2000 = length(lists:usort(Pids)),
    relay(Coop, [{to, Pid, here} || Pid <- Pids]),
    ok = coop:flush(Coop, ?LIMIT),
    2001 = length(mailbox()),
    relay(Coop, [{stop, Pid} || Pid <- Pids]),
    ok = coop:flush(Coop, ?LIMIT),
    [{total, 0}] = mailbox(),
    eventually(all_gone, fun() -> not is_map_key(started, coop_process:ask(pid(Coop, boss), info, ?LIMIT)) end),
    stop(Coop),
    eventually(nothing_left, fun() -> processes_of(Config) =< Before end).

processes_of(Config) ->
    case is_native(Config) of
        true -> length(erpc:call(esp_node:node(?C_NODE), erlang, processes, []));
        false -> erlang:system_info(process_count)
    end.
