%% Each dataflow method keeps what doc/dataflow.md promises of it, in every home:
%% a router and its workers on one VM, on one C-node, and on either side.
-module(dataflow_SUITE).

-export([all/0, groups/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, take/1, take/2, mailbox/0, pid/2]).

-define(C_NODE, t_dataflow).
-define(LIMIT, 20_000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Group} || Group <- [vm, native, vm_to_native, native_to_vm]].

groups() ->
    [
        {vm, [], everywhere() ++ [a_fun_may_choose_the_key, a_fun_may_choose_the_nodes]},
        {native, [],
            everywhere() ++
                [
                    a_task_may_choose_the_key,
                    a_task_may_choose_the_nodes,
                    a_task_that_takes_its_datum_leaves_the_result_whole,
                    a_task_that_gives_no_single_key_ends_the_node,
                    an_exception_in_a_task_for_the_key_is_the_reason,
                    mistakes_in_a_task_to_go_by_are_named
                ]},
        {vm_to_native, [], everywhere()},
        {native_to_vm, [],
            everywhere() ++ [a_task_may_choose_the_key, a_task_may_choose_the_nodes]}
    ].

everywhere() ->
    [
        broadcast_reaches_all_in_order,
        round_robin_gives_each_its_turn,
        random_takes_all_workers_alike,
        shuffle_gives_each_its_turn_in_every_round,
        equal_keys_go_to_one_worker_in_order,
        keys_are_spread_evenly,
        a_worker_more_draws_its_share_of_keys_and_moves_no_other,
        only_the_keys_of_a_worker_that_is_gone_move,
        select_goes_to_the_nodes_named,
        an_unknown_name_ends_the_node_with_bad_select,
        a_result_without_the_part_ends_the_node,
        one_worker_is_no_exception,
        a_full_edge_is_waited_for_by_those_that_promise_an_edge,
        least_loaded_passes_by_a_stopped_worker,
        least_loaded_waits_only_when_all_are_full,
        least_loaded_takes_turns_among_idle_workers,
        results_of_a_flush_go_by_the_method_too
    ].

init_per_suite(Config) ->
    [{c_node, esp_test_c_node:start(?C_NODE)} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

%% The homes of the router and of the workers.
init_per_group(vm, Config) -> [{homes, {vm, vm}} | Config];
init_per_group(native, Config) -> [{homes, {native, native}} | Config];
init_per_group(vm_to_native, Config) -> [{homes, {vm, native}} | Config];
init_per_group(native_to_vm, Config) -> [{homes, {native, vm}} | Config].

end_per_group(_, _) -> ok.

%%% Helpers

router(Config, Dataflow) -> router(Config, same, Dataflow).

router(Config, Task, Dataflow) ->
    Options = #{dataflow => Dataflow},
    case proplists:get_value(homes, Config) of
        {vm, _} -> coop:task(router, fun(S, D) -> ?MODULE:Task(S, D) end, Options);
        {native, _} -> coop:native(router, routes, Task, Options)
    end.

same(S, D) -> {S, D}.
up_to(S, N) -> {S, many, lists:seq(1, N)}.

worker(Config, Name) ->
    case proplists:get_value(homes, Config) of
        {_, vm} -> coop:task(Name, fun(S, D) -> {S, {Name, D}} end, #{});
        {_, native} -> coop:native(Name, routes, label, #{args => Name})
    end.

start(Config, Router, Names, More) ->
    process_flag(trap_exit, true),
    T = coop_flow:fanout(Router, [worker(Config, Name) || Name <- Names], none),
    {ok, Coop} = coop:start_link(T, maps:merge(#{node => ?C_NODE, receiver => self()}, More)),
    Coop.

stop(Coop) ->
    ok = coop:stop(Coop),
    [{'EXIT', Coop, normal}] = mailbox(),
    ok.

%% What each worker got, in order.
parts(Names, Got) ->
    [[D || {N, D} <- Got, N =:= Name] || Name <- Names].

routed(Config, Dataflow, Names, Data) when not is_map(Dataflow) ->
    routed(Config, router(Config, Dataflow), Names, Data);
routed(Config, Router, Names, Data) ->
    Coop = start(Config, Router, Names, #{}),
    ok = coop:relay_batch(Coop, Data),
    ok = coop:flush(Coop, ?LIMIT),
    Got = mailbox(),
    stop(Coop),
    parts(Names, Got).

%% Why the co-op ended of that datum, and what left it before.
ends_of(Config, Router, Names, Datum) ->
    Coop = start(Config, Router, Names, #{}),
    ok = coop:relay_data(Coop, Datum),
    receive
        {'EXIT', Coop, Reason} -> {Reason, mailbox()}
    after ?LIMIT -> ct:fail(still_there)
    end.

%% The chi-square of counts that should be equal. One in two billion is beyond
%% 50 for five of them.
chi_square(Counts) ->
    Expected = lists:sum(Counts) / length(Counts),
    lists:sum([(C - Expected) * (C - Expected) / Expected || C <- Counts]).

rounds(_, []) -> [];
rounds(N, Data) ->
    {Round, Rest} = lists:split(N, Data),
    [Round | rounds(N, Rest)].

%%% Which edge

broadcast_reaches_all_in_order(Config) ->
    Data = lists:seq(1, 500),
    [Data, Data, Data] = routed(Config, broadcast, [a, b, c], Data).

round_robin_gives_each_its_turn(Config) ->
    [[1, 4, 7], [2, 5, 8], [3, 6, 9]] = routed(Config, round_robin, [a, b, c], lists:seq(1, 9)).

random_takes_all_workers_alike(Config) ->
    Parts = routed(Config, random, [a, b, c, d, e], lists:seq(1, 5000)),
    5000 = length(lists:append(Parts)),
    [P = lists:sort(P) || P <- Parts],
    Counts = [length(P) || P <- Parts],
    {true, _} = {chi_square(Counts) < 50, Counts},
    %% whoever had the one before
    Of = maps:from_list([{D, I} || {I, P} <- lists:zip([1, 2, 3, 4, 5], Parts), D <- P]),
    Next = [(5 + maps:get(D + 1, Of) - maps:get(D, Of)) rem 5 || D <- lists:seq(1, 4999)],
    Steps = [length([S || S <- Next, S =:= Step]) || Step <- [0, 1, 2, 3, 4]],
    {true, _} = {chi_square(Steps) < 50, Steps}.

shuffle_gives_each_its_turn_in_every_round(Config) ->
    Names = [a, b, c, d],
    Parts = routed(Config, shuffle, Names, lists:seq(1, 2000)),
    [P = lists:sort(P) || P <- Parts],
    Of = maps:from_list([{D, Name} || {Name, P} <- lists:zip(Names, Parts), D <- P]),
    Rounds = rounds(4, [maps:get(D, Of) || D <- lists:seq(1, 2000)]),
    [Names = lists:sort(Round) || Round <- Rounds],
    %% 24 orders of 500 rounds: each is there, but once in 20 million runs
    24 = length(lists:usort(Rounds)).

equal_keys_go_to_one_worker_in_order(Config) ->
    Names = [a, b, c, d],
    Tuples = [{x, I rem 17, I} || I <- lists:seq(1, 400)],
    Maps = [#{k => K, v => V} || {x, K, V} <- Tuples],
    [
        begin
            Parts = routed(Config, {hash, Part}, Names, In),
            17 = length(lists:append([lists:usort([Key(D) || D <- P]) || P <- Parts])),
            true = length([P || P <- Parts, P =/= []]) > 1,
            [P = [D || D <- In, lists:member(D, P)] || P <- Parts]
        end
     || {Part, In, Key} <- [
            {{element, 2}, Tuples, fun({x, K, _}) -> K end},
            {{key, k}, Maps, fun(#{k := K}) -> K end},
            {all, [K || {x, K, _} <- Tuples], fun(K) -> K end}
        ]
    ].

keys_are_spread_evenly(Config) ->
    [
        begin
            Counts = [length(P) || P <- routed(Config, {hash, all}, [a, b, c, d, e], Keys)],
            {true, _} = {chi_square(Counts) < 50, Counts}
        end
     || Keys <- [
            lists:seq(1, 2000),
            [I * 1024 || I <- lists:seq(1, 2000)],
            [float(I) || I <- lists:seq(1, 2000)],
            [integer_to_binary(I) || I <- lists:seq(1, 2000)],
            [{key, I} || I <- lists:seq(1, 2000)]
        ]
    ].

where(Config, Names, Keys) ->
    Parts = routed(Config, {hash, all}, Names, Keys),
    maps:from_list([{K, Name} || {Name, P} <- lists:zip(Names, Parts), K <- P]).

%% The newcomer's share is a fifth, within 6 standard deviations.
a_worker_more_draws_its_share_of_keys_and_moves_no_other(Config) ->
    Keys = lists:seq(1, 2000),
    Before = where(Config, [a, b, c, d], Keys),
    After = where(Config, [a, b, c, d, e], Keys),
    Moved = [K || K <- Keys, maps:get(K, Before) =/= maps:get(K, After)],
    [e] = lists:usort([maps:get(K, After) || K <- Moved]),
    {true, _} = {abs(length(Moved) - 400) < 6 * 18, length(Moved)}.

%% Wherever it stood, and however those that are left stand.
only_the_keys_of_a_worker_that_is_gone_move(Config) ->
    Keys = lists:seq(1, 500),
    Before = where(Config, [a, b, c, d], Keys),
    After = where(Config, [d, a, c], Keys),
    [b] = lists:usort([N || {K, N} <- maps:to_list(Before), maps:get(K, After) =/= N]).

select_goes_to_the_nodes_named(Config) ->
    Names = [a, b, c],
    Data = [{a, 1}, {[c, a], 2}, {[], 3}, {b, 4}, {[b], 5}, {[c, c], 6}],
    [
        [{a, 1}, {[c, a], 2}],
        [{b, 4}, {[b], 5}],
        [{[c, a], 2}, {[c, c], 6}, {[c, c], 6}]
    ] = routed(Config, {select, {element, 1}}, Names, Data),
    Map = #{"to" => b},
    [[], [Map], []] = routed(Config, {select, {key, "to"}}, Names, [Map]),
    [[a], [[c, b]], [[c, b]]] = routed(Config, {select, all}, Names, [a, [c, b], []]).

an_unknown_name_ends_the_node_with_bad_select(Config) ->
    Router = router(Config, {select, {element, 1}}),
    [
        {{{{bad_select, Bad}, [_ | _]}, []}, _} = {ends_of(Config, Router, [a, b], {To, 1}), To}
     || {To, Bad} <- [
            {nobody, nobody},
            %% none of its nodes has the result then
            {[a, nobody], nobody},
            {<<"a">>, <<"a">>},
            {"a", $a},
            {router, router}
        ]
    ].

a_result_without_the_part_ends_the_node(Config) ->
    [
        {{{no_part, Part, Datum}, [_ | _]}, []} =
            ends_of(Config, router(Config, {How, Part}), [a, b], Datum)
     || How <- [hash, select],
        {Part, Datum} <- [
            {{element, 2}, {a}},
            {{element, 1}, [a]},
            {{key, k}, #{x => a}},
            {{key, k}, a}
        ]
    ].

one_worker_is_no_exception(Config) ->
    [
        [[a, a]] = routed(Config, Method, [a], [a, a])
     || Method <- [round_robin, random, shuffle, least_loaded, {hash, all}, {select, all}]
    ],
    {{{bad_select, b}, _}, []} = ends_of(Config, router(Config, {select, all}), [a], b),
    {{{no_part, {element, 1}, b}, _}, []} =
        ends_of(Config, router(Config, {hash, {element, 1}}), [a], b).

results_of_a_flush_go_by_the_method_too(Config) ->
    Flushing =
        case proplists:get_value(homes, Config) of
            {vm, _} ->
                coop:task(router, fun(S, _) -> {S} end, #{
                    flush => fun(S) -> {S, 7} end, dataflow => {hash, all}
                });
            {native, _} ->
                coop:native(router, sums, total, #{args => 7, dataflow => {hash, all}})
        end,
    Coop = start(Config, Flushing, [a, b, c], #{}),
    [ok = coop:flush(Coop, ?LIMIT) || _ <- lists:seq(1, 5)],
    [{Name, 7} | _] = Got = mailbox(),
    Got = lists:duplicate(5, {Name, 7}),
    stop(Coop).

%%% A full edge

%% Relays until there is no credit any more: the co-op is full, as far as it can be.
fill(Coop, Data) ->
    Relayer = spawn_link(fun() -> ok = coop:relay_batch(Coop, Data) end),
    eventually({to_wait_for_credit, Relayer}, fun() ->
        {current_stacktrace, Stack} = process_info(Relayer, current_stacktrace),
        lists:keymember(coop_credit, 1, Stack) andalso
            process_info(Relayer, status) =:= {status, waiting}
    end).

%% A worker that stands still stops the router, and what it was due it gets.
a_full_edge_is_waited_for_by_those_that_promise_an_edge(Config) ->
    Names = [a, b, c],
    Data = lists:seq(1, 6000),
    [
        begin
            %% it takes results whatever this process does
            Receiver = spawn_link(fun() -> collect([]) end),
            More = #{window => 5, receiver => Receiver},
            Coop = start(Config, router(Config, Method), Names, More),
            Stopped = pid(Coop, b),
            ok = sys:suspend(Stopped),
            fill(Coop, Data),
            ok = sys:resume(Stopped),
            Receiver ! {all, self(), length(Data)},
            Got = take(all, Receiver),
            Parts = parts(Names, Got),
            [P = lists:sort(P) || P <- Parts],
            Data = lists:sort(lists:append(Parts)),
            ok = kept(Method, Parts),
            ok = coop:stop(Coop),
            _ = mailbox()
        end
     || Method <- [round_robin, shuffle, random, {hash, all}]
    ].

collect(Got) ->
    receive
        {all, From, N} when length(Got) =:= N -> From ! {all, self(), lists:reverse(Got)};
        {Name, Datum} -> collect([{Name, Datum} | Got])
    end.

kept(round_robin, Parts) ->
    [1, 2, 3] = [hd(P) || P <- Parts],
    [[2000, [3]] = [length(P), lists:usort(steps(P))] || P <- Parts],
    ok;
kept(shuffle, Parts) ->
    [Rounds, Rounds, Rounds] = [[(D - 1) div 3 || D <- P] || P <- Parts],
    ok;
kept(_, Parts) ->
    {true, _} = {chi_square([length(P) || P <- Parts]) < 50, Parts},
    ok.

steps(P) -> lists:zipwith(fun(X, Y) -> Y - X end, lists:droplast(P), tl(P)).

%% All but what fits on the edge of the one that stands still.
least_loaded_passes_by_a_stopped_worker(Config) ->
    Coop = start(Config, router(Config, least_loaded), [a, b, c], #{window => 5}),
    Stopped = pid(Coop, b),
    ok = sys:suspend(Stopped),
    ok = coop:relay_batch(Coop, lists:seq(1, 5000)),
    Passed = take(4995),
    [] = [D || {b, D} <- Passed],
    ok = sys:resume(Stopped),
    ok = coop:flush(Coop, ?LIMIT),
    Rest = mailbox(),
    true = lists:sort([D || {_, D} <- Passed ++ Rest]) =:= lists:seq(1, 5000),
    [P = lists:sort(P) || P <- parts([a, b, c], Passed ++ Rest)],
    stop(Coop).

%% The results of one datum, with all edges full: the first edge that has credit
%% again takes the rest.
least_loaded_waits_only_when_all_are_full(Config) ->
    Names = [a, b, c],
    Coop = start(Config, router(Config, up_to, least_loaded), Names, #{window => 5}),
    Workers = [pid(Coop, Name) || Name <- Names],
    [ok = sys:suspend(Pid) || Pid <- Workers],
    ok = coop:relay_data(Coop, 1000),
    [
        eventually({full, Pid}, fun() ->
            maps:get(queue, coop_process:ask(Pid, info, 5000)) =:= 5
        end)
     || Pid <- Workers
    ],
    [] = mailbox(),
    [_, Second, _] = Workers,
    ok = sys:resume(Second),
    Passed = take(990),
    [b] = lists:usort([N || {N, _} <- Passed]),
    [ok = sys:resume(Pid) || Pid <- Workers],
    ok = coop:flush(Coop, ?LIMIT),
    Got = Passed ++ mailbox(),
    true = lists:sort([D || {_, D} <- Got]) =:= lists:seq(1, 1000),
    [5, 990, 5] = [length(P) || P <- parts(Names, Got)],
    stop(Coop).

least_loaded_takes_turns_among_idle_workers(Config) ->
    Coop = start(Config, router(Config, least_loaded), [a, b, c], #{}),
    Got = [
        begin
            {ok, {Name, I}} = coop:call(Coop, I, ?LIMIT),
            Name
        end
     || I <- lists:seq(1, 30)
    ],
    [[10, 10, 10]] = [[length([N || N <- Got, N =:= Name]) || Name <- [a, b, c]]],
    stop(Coop).

%%% Funs and tasks to go by

a_fun_may_choose_the_key(Config) ->
    goes_by_tens(Config, fun(X) -> X div 10 end).

a_task_may_choose_the_key(Config) ->
    goes_by_tens(Config, tens).

goes_by_tens(Config, Part) ->
    Parts = routed(Config, {hash, Part}, [a, b, c], lists:seq(0, 299)),
    30 = length(lists:append([lists:usort([D div 10 || D <- P]) || P <- Parts])),
    [true = P =/= [] || P <- Parts],
    [P = lists:sort(P) || P <- Parts].

a_fun_may_choose_the_nodes(Config) ->
    goes_by_names(Config, fun
        (0) -> [];
        (X) when X rem 3 =:= 0 -> [b, a];
        (X) when X rem 2 =:= 0 -> a;
        (_) -> b
    end).

a_task_may_choose_the_nodes(Config) ->
    goes_by_names(Config, several).

goes_by_names(Config, Part) ->
    [[2, 3, 4, 6], [1, 3, 5, 6, 7], []] =
        routed(Config, {select, Part}, [a, b, c], [0, 1, 2, 3, 4, 5, 6, 7]).

a_task_that_takes_its_datum_leaves_the_result_whole(Config) ->
    Parts = routed(Config, router(Config, text, {hash, stolen}), [a, b], lists:seq(1, 100)),
    true =
        lists:sort([integer_to_binary(I) || I <- lists:seq(1, 100)]) =:=
            lists:sort(lists:append(Parts)).

a_task_that_gives_no_single_key_ends_the_node(Config) ->
    {{{no_part, two_keys, 7}, _}, []} =
        ends_of(Config, router(Config, {hash, two_keys}), [a, b], 7),
    {{{no_part, tens, seven}, _}, []} =
        ends_of(Config, router(Config, {hash, tens}), [a, b], seven).

an_exception_in_a_task_for_the_key_is_the_reason(Config) ->
    {{{cpp_exception, <<"std::runtime_error">>, <<"no key">>}, _}, []} =
        ends_of(Config, router(Config, {hash, throws_up}), [a, b], 7).

mistakes_in_a_task_to_go_by_are_named(Config) ->
    [
        {error, {bad_node, router, Cause}} = coop:start_link(
            coop_flow:fanout(router(Config, Task, Method), [worker(Config, a)], none),
            #{node => ?C_NODE}
        )
     || {Task, Method, Cause} <- [
            {same, {hash, nobody}, {no_task, routes, nobody}},
            {same, {select, nobody}, {no_task, routes, nobody}},
            {same, {hash, counter}, {native_needs, {stateless, counter}}},
            %% a string for a task that takes a number
            {text, {hash, tens}, {type_mismatch, tens}},
            %% a number for a name
            {up_to, {select, tens}, {type_mismatch, tens}}
        ]
    ].
