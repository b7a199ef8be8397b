%% Properties of co-ops of any shape, against a model that runs one node after
%% the other.
-module(coop_props_SUITE).

-include("esp_proper.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([a_flush_is_a_barrier_in_any_graph/1]).
-export([order_is_kept_on_every_edge_of_any_graph/1]).
-export([nothing_is_lost_or_doubled_by_choosing_dataflows/1]).
-export([equal_keys_meet_at_the_same_worker/1]).
-export([no_queue_exceeds_its_windows/1]).
%% for the suites of other homes
-export([dag/0, stretches/0, names/1, counting/1, run/2, model/2, number/1]).

-define(LIMIT, 20_000).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [
        a_flush_is_a_barrier_in_any_graph,
        order_is_kept_on_every_edge_of_any_graph,
        nothing_is_lost_or_doubled_by_choosing_dataflows,
        equal_keys_meet_at_the_same_worker,
        no_queue_exceeds_its_windows
    ].

init_per_suite(Config) ->
    [{started, esp_test_lib:start_app()} | Config].

end_per_suite(Config) ->
    esp_test_lib:stop_app(proplists:get_value(started, Config)).

%%% Generators

range(From, To) -> proper_types:integer(From, To).

dag() ->
    ?LET(
        N,
        range(1, 6),
        ?LET(
            Pairs,
            proper_types:list({range(1, N), range(1, N)}),
            {N, lists:usort([{name(A), name(B)} || {A, B} <- Pairs, A < B])}
        )
    ).

%% Stretches of data, a flush after each.
stretches() ->
    proper_types:list(proper_types:list(range(1, 100))).

name(I) -> list_to_atom("n" ++ integer_to_list(I)).

names(N) -> [name(I) || I <- lists:seq(1, N)].

%%% The co-op: a datum is {Serial, Path}, each node adds its name to the path;
%%% a flush emits how many data came since the one before.

counting(Name) ->
    coop:task(Name, fun(S, {Datum, Path}) -> {S + 1, {Datum, [Name | Path]}} end, #{
        init => fun() -> 0 end,
        flush => fun(S) -> {0, {{count, Name, S}, [Name]}} end
    }).

start({N, Edges}, Window) ->
    {ok, Coop} = coop:start_link(
        coop_flow:graph([counting(Name) || Name <- names(N)], Edges),
        #{receiver => self(), window => Window}
    ),
    Coop.

%% Relays everything, with the flushes under way at the same time.
run(Coop, Stretches) ->
    lists:foldl(
        fun(Stretch, Serial) ->
            Next = lists:foldl(
                fun(_, I) ->
                    ok = coop:relay_data(Coop, {I, []}),
                    I + 1
                end,
                Serial,
                Stretch
            ),
            Coop ! {'$coop', flush, {self(), ignored}},
            Next
        end,
        1,
        Stretches
    ),
    ok = coop:flush(Coop, ?LIMIT),
    ok = coop:stop(Coop),
    [M || M <- esp_test_lib:mailbox(), element(1, M) =/= '$coop'].

%% What leaves the last tier for one stretch, node by node.
model({N, Edges}, Data) ->
    Out = lists:foldl(
        fun(Name, Acc) ->
            In =
                case [From || {From, To} <- Edges, To =:= Name] of
                    [] -> [{D, []} || D <- Data];
                    Froms -> lists:append([maps:get(From, Acc) || From <- Froms])
                end,
            Results = [{D, [Name | Path]} || {D, Path} <- In],
            Acc#{Name => Results ++ [{{count, Name, length(In)}, [Name]}]}
        end,
        #{},
        names(N)
    ),
    Last = names(N) -- [From || {From, _} <- Edges],
    lists:append([maps:get(Name, Out) || Name <- Last]).

number(Stretches) ->
    {Numbered, _} = lists:mapfoldl(
        fun(Stretch, Serial) ->
            Next = Serial + length(Stretch),
            {lists:seq(Serial, Next - 1), Next}
        end,
        1,
        Stretches
    ),
    Numbered.

%%% Properties

%% Counts tell: a datum that passed a barrier, or a barrier that passed a datum,
%% is counted in another stretch than its own.
a_flush_is_a_barrier_in_any_graph(_) ->
    esp_test_lib:holds(
        ?FORALL(
            {Dag, Stretches, Window},
            {dag(), stretches(), range(1, 5)},
            begin
                Got = run(start(Dag, Window), Stretches),
                %% the flush that run/2 waits for ends an empty stretch
                Expected = [model(Dag, Data) || Data <- number(Stretches) ++ [[]]],
                lists:sort(Got) =:= lists:sort(lists:append(Expected))
            end
        ),
        200
    ).

order_is_kept_on_every_edge_of_any_graph(_) ->
    esp_test_lib:holds(
        ?FORALL(
            {Dag, Stretch, Window},
            {dag(), proper_types:list(range(1, 9)), range(1, 5)},
            begin
                Got = run(start(Dag, Window), [Stretch]),
                Data = [M || {Serial, _} = M <- Got, is_integer(Serial)],
                Paths = lists:usort([Path || {_, Path} <- Data]),
                Serials = [[S || {S, P} <- Data, P =:= Path] || Path <- Paths],
                lists:all(fun(L) -> L =:= lists:seq(1, length(Stretch)) end, Serials) andalso
                    (Stretch =:= [] orelse Paths =/= [])
            end
        ),
        200
    ).

dataflow() ->
    proper_types:oneof([round_robin, random, {hash, all}, {hash, fun(D) -> D rem 3 end}]).

%% A router of any method before workers: each datum comes out once, and in
%% order at the worker that it went to.
nothing_is_lost_or_doubled_by_choosing_dataflows(_) ->
    esp_test_lib:holds(
        ?FORALL(
            {Dataflow, Workers, Count, Window},
            {dataflow(), range(1, 6), range(0, 300), range(1, 20)},
            begin
                Parts = route(Dataflow, Workers, lists:seq(1, Count), Window),
                lists:sort(lists:append(Parts)) =:= lists:seq(1, Count) andalso
                    lists:all(fun(P) -> P =:= lists:sort(P) end, Parts)
            end
        ),
        150
    ).

equal_keys_meet_at_the_same_worker(_) ->
    esp_test_lib:holds(
        ?FORALL(
            {Keys, Workers},
            {proper_types:list(proper_types:oneof([range(1, 5), proper_types:binary()])), range(2, 5)},
            begin
                Data = lists:zip(Keys, lists:seq(1, length(Keys))),
                Parts = route({hash, {element, 1}}, Workers, Data, 10),
                PerWorker = [lists:usort([K || {K, _} <- P]) || P <- Parts],
                length(lists:append(PerWorker)) =:= length(lists:usort(Keys))
            end
        ),
        150
    ).

route(Dataflow, Workers, Data, Window) ->
    Same = fun(S, D) -> {S, D} end,
    Named = fun(Name) -> coop:task(Name, fun(S, D) -> {S, {Name, D}} end, #{}) end,
    Names = names(Workers),
    Router = coop:task(router, Same, #{dataflow => Dataflow}),
    {ok, Coop} = coop:start_link(
        coop_flow:fanout(Router, [Named(Name) || Name <- Names], none),
        #{receiver => self(), window => Window}
    ),
    ok = coop:relay_batch(Coop, Data),
    ok = coop:flush(Coop, ?LIMIT),
    ok = coop:stop(Coop),
    Got = esp_test_lib:mailbox(),
    [[D || {Name, D} <- Got, Name =:= Each] || Each <- Names].

%% Whatever blocks in the middle: what waits at a node is at most the windows of
%% its edges, and at the head what the relaying VM may send.
no_queue_exceeds_its_windows(_) ->
    esp_test_lib:holds(
        ?FORALL(
            {Dag = {N, Edges}, Window, Stopped},
            {dag(), range(1, 10), range(1, 6)},
            begin
                Coop = start(Dag, Window),
                #{nodes := Nodes} = coop:info(Coop),
                {_, Pid} = lists:nth((Stopped - 1) rem N + 1, Nodes),
                ok = sys:suspend(Pid),
                Relayer = spawn_link(fun() ->
                    [coop:relay_data(Coop, {I, []}) || I <- lists:seq(1, 6000)]
                end),
                wait_for_credit(Relayer),
                #{queue := AtHead} = coop:info(Coop),
                Queues = [
                    {maps:get(queue, coop_process:ask(P, info, 5000)), Window * edges_to(Name, Edges)}
                 || {Name, P} <- Nodes
                ],
                unlink(Relayer),
                exit(Relayer, kill),
                unlink(Coop),
                exit(Coop, kill),
                _ = esp_test_lib:mailbox(),
                AtHead =< 4096 andalso lists:all(fun({Q, Max}) -> Q =< Max end, Queues)
            end
        ),
        30
    ).

edges_to(Name, Edges) ->
    max(1, length([To || {_, To} <- Edges, To =:= Name])).

wait_for_credit(Pid) ->
    esp_test_lib:eventually({to_wait_for_credit, Pid}, fun() ->
        {current_stacktrace, Stack} = process_info(Pid, current_stacktrace),
        lists:keymember(coop_credit, 1, Stack) andalso
            process_info(Pid, status) =:= {status, waiting}
    end).
