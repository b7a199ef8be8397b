%% Properties of co-ops of any shape, in any home, against a model that runs one
%% node after the other. ESP_PROPERTY_TESTS=10000 in the environment runs each of
%% them that many times instead of the few that there is time for in every build.
-module(coop_props_SUITE).

-include("esp_proper.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([any_graph_of_erlang_tasks_keeps_its_promises/1]).
-export([any_graph_of_native_tasks_keeps_its_promises/1]).
-export([any_graph_across_homes_keeps_its_promises/1]).
-export([keys_move_only_from_workers_that_go_and_to_those_that_come/1]).
-export([no_queue_exceeds_its_windows/1]).

-define(C_NODE, t_props).
-define(LIMIT, 20_000).
%% How many data the nodes of a co-op take in one test, all together.
-define(LOAD, 4_000).

suite() ->
    [
        {timetrap,
            case os:getenv("ESP_PROPERTY_TESTS") of
                false -> {seconds, 120};
                _ -> infinity
            end}
    ].

all() ->
    [
        any_graph_of_erlang_tasks_keeps_its_promises,
        any_graph_of_native_tasks_keeps_its_promises,
        any_graph_across_homes_keeps_its_promises,
        keys_move_only_from_workers_that_go_and_to_those_that_come,
        no_queue_exceeds_its_windows
    ].

init_per_suite(Config) ->
    [{c_node, esp_test_c_node:start(?C_NODE)} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

holds(Property, Tests) ->
    esp_test_lib:holds(
        Property,
        case os:getenv("ESP_PROPERTY_TESTS") of
            false -> Tests;
            Many -> list_to_integer(Many)
        end
    ).

%%% Generators; each shrinks to what comes first

range(From, To) -> proper_types:integer(From, To).

graph(Vertex) ->
    ?LET(
        N,
        range(1, 6),
        ?LET(
            {Vertices, Pairs},
            {proper_types:vector(N, Vertex), proper_types:list({range(1, N), range(1, N)})},
            {
                [{name(I), H, K, E, M} || {I, {H, K, E, M}} <- lists:zip(lists:seq(1, N), Vertices)],
                %% in any order: it is that of the turns
                unique([{name(A), name(B)} || {A, B} <- Pairs, A < B])
            }
        )
    ).

vertex(Homes) ->
    {
        proper_types:oneof(Homes),
        proper_types:oneof([one, even, two, none, to]),
        proper_types:oneof([false, true]),
        proper_types:oneof([
            broadcast,
            round_robin,
            shuffle,
            random,
            least_loaded,
            {hash, {element, 2}},
            {hash, by_thirds},
            {hash, all},
            {select, {element, 5}},
            {select, by_names}
            | [{consume, Home} || Home <- Homes]
        ])
    }.

name(I) -> list_to_atom("n" ++ integer_to_list(I)).

unique([]) -> [];
unique([First | Rest]) -> [First | unique([Each || Each <- Rest, Each =/= First])].

%% Stretches of data, with a flush after each, and whether it is waited for.
stretches() ->
    proper_types:list({proper_types:oneof([true, false]), proper_types:list(range(0, 11))}).

%% How many instances there are, and how data are dealt out to them.
instances() ->
    {
        range(1, 3),
        proper_types:oneof([
            broadcast,
            round_robin,
            shuffle,
            random,
            least_loaded,
            {hash, {element, 2}},
            {hash, all}
        ])
    }.

%% As many as the nodes can take, which a graph of many paths multiplies.
cut(Stretches, Graph, N) ->
    {Cut, _} = lists:mapfoldl(
        fun({Waits, Keys}, Left) ->
            Some = lists:sublist(Keys, Left),
            {{Waits, Some}, Left - length(Some)}
        end,
        max(1, ?LOAD div (N * coop_model:load(Graph))),
        Stretches
    ),
    Cut.

%%% A run, in a process that takes along whatever is left of it

run(Graph, Instances, Stretches, Window) ->
    {Pid, Ref} = spawn_monitor(fun() ->
        exit({ran, run_here(Graph, Instances, Stretches, Window)})
    end),
    receive
        {'DOWN', Ref, process, Pid, {ran, Result}} -> Result;
        {'DOWN', Ref, process, Pid, Reason} -> {ended, Reason}
    end.

%% The last flush is waited for, and ends a stretch without data.
run_here(Graph = {Vertices, _}, {N, Method}, Stretches0, Window) ->
    Stretches = cut(Stretches0, Graph, N) ++ [{true, []}],
    {ok, Coop} = coop:start_link(coop_model:template(Graph), #{
        node => ?C_NODE, receiver => self(), window => Window, instances => N, dataflow => Method
    }),
    {Relayed, Got} = relay(Coop, Stretches, 1, 1, [], []),
    #{nodes := Nodes} = coop:info(Coop),
    Logs = logs([Pid || {_, Pid} <- Nodes], [Name || {Name, _, _, _, _} <- Vertices]),
    ok = coop:stop(Coop),
    [] = esp_test_lib:mailbox(),
    coop_model:check(Graph, Method, Relayed, Logs, Got).

%% By instance, and there by the name in the graph.
logs([], _Names) ->
    [];
logs(Pids, Names) ->
    {Instance, Rest} = lists:split(length(Names), Pids),
    Logs = [coop_model:log(sys:get_state(Pid)) || Pid <- Instance],
    [maps:from_list(lists:zip(Names, Logs)) | logs(Rest, Names)].

relay(_Coop, [], _Stretch, _Seq, Relayed, Got) ->
    {lists:reverse(Relayed), lists:reverse(Got)};
relay(Coop, [{Waits, Keys} | Rest], Stretch, Seq, Relayed, Got) ->
    Next = Seq + length(Keys),
    Data = [{Stretch, K, relay, I, []} || {K, I} <- lists:zip(Keys, lists:seq(Seq, Next - 1))],
    ok = coop:relay_batch(Coop, Data),
    Got2 =
        case Waits of
            true ->
                ok = coop:flush(Coop, ?LIMIT),
                [{Stretch, results()} | Got];
            false ->
                Coop ! {'$coop', flush, {self(), not_waited_for}},
                Got
        end,
    relay(Coop, Rest, Stretch + 1, Next, [Data | Relayed], Got2).

results() ->
    [M || M <- esp_test_lib:mailbox(), element(1, M) =/= '$coop'].

keeps_its_promises(Homes) ->
    ?FORALL(
        {Graph, Instances, Stretches, Window},
        {graph(vertex(Homes)), instances(), stretches(), proper_types:oneof([1, 2, 3, 10, 1000])},
        begin
            Result = run(Graph, Instances, Stretches, Window),
            ?WHENFAIL(
                ct:pal("~p~nof ~p", [Result, {Graph, Instances, Stretches, Window}]), Result =:= ok
            )
        end
    ).

%%% Properties

any_graph_of_erlang_tasks_keeps_its_promises(_) ->
    holds(keeps_its_promises([vm]), 300).

any_graph_of_native_tasks_keeps_its_promises(_) ->
    holds(keeps_its_promises([native]), 150).

any_graph_across_homes_keeps_its_promises(_) ->
    holds(keeps_its_promises([vm, native]), 150).

%% Of the Erlang half; of the native one see test/coop/dispatch_test.cpp.
keys_move_only_from_workers_that_go_and_to_those_that_come(_) ->
    holds(
        ?FORALL(
            {First, Second, Keys},
            {workers(), workers(), proper_types:list(proper_types:term())},
            begin
                {Before, After} = {workers_of(Keys, First), workers_of(Keys, Second)},
                lists:all(
                    fun({Key, Worker}) ->
                        case maps:get(Key, After) of
                            Worker -> true;
                            Other -> not (lists:member(Worker, Second) andalso
                                lists:member(Other, First))
                        end
                    end,
                    maps:to_list(Before)
                )
            end
        ),
        1000
    ).

workers() ->
    ?LET(
        {First, Rest},
        {range(1, 9), proper_types:list(range(1, 9))},
        unique([name(I) || I <- [First | Rest]])
    ).

workers_of(Keys, Workers) ->
    %% the number of a worker's edge is of no account
    Named = lists:zip([[I] || I <- lists:seq(1, length(Workers))], Workers),
    Dataflow = coop_dataflow:new({hash, all}, Named),
    maps:from_list([
        begin
            {Way, _} = coop_dataflow:route(Key, Dataflow),
            {Key, proplists:get_value(Way, Named)}
        end
     || Key <- Keys
    ]).

%% All nodes see all data, and one of them stands still: what waits at a node is at
%% most the windows of its edges, and at the head what the relaying VM may send. (Of
%% Erlang tasks: a native one that waits for credit answers no questions.)
no_queue_exceeds_its_windows(_) ->
    holds(
        ?FORALL(
            {Graph, Window, Stopped},
            {graph({vm, one, false, broadcast}), range(1, 10), range(1, 6)},
            fits(Graph, Window, Stopped)
        ),
        30
    ).

fits(Graph = {Vertices, Edges}, Window, Stopped) ->
    {ok, Coop} = coop:start_link(coop_model:template(Graph), #{node => ?C_NODE, window => Window}),
    #{nodes := Nodes} = coop:info(Coop),
    {_, Pid} = lists:nth((Stopped - 1) rem length(Vertices) + 1, Nodes),
    ok = sys:suspend(Pid),
    Relayer = spawn_link(fun() ->
        [coop:relay_data(Coop, {1, I rem 12, relay, I, []}) || I <- lists:seq(1, 6000)]
    end),
    stands_still(Relayer),
    #{queue := AtHead} = coop:info(Coop),
    Queues = [
        {maps:get(queue, coop_process:ask(P, info, 5000)), Window * edges_to(Name, Edges)}
     || {Name, P} <- Nodes
    ],
    unlink(Relayer),
    exit(Relayer, kill),
    unlink(Coop),
    exit(Coop, kill),
    AtHead =< 1024 andalso lists:all(fun({Queue, Max}) -> Queue =< Max end, Queues).

edges_to(Name, Edges) ->
    max(1, length([To || {_, To} <- Edges, To =:= Name])).

stands_still(Relayer) ->
    esp_test_lib:eventually({to_wait_for_credit, Relayer}, fun() ->
        {current_stacktrace, Stack} = process_info(Relayer, current_stacktrace),
        lists:keymember(coop_credit, 1, Stack) andalso
            process_info(Relayer, status) =:= {status, waiting}
    end).
