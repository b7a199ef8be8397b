-module(coop_flow_SUITE).

-include("esp_proper.hrl").

-export([all/0]).
-export([a_pipeline_feeds_each_node_from_the_one_before/1]).
-export([a_fanout_has_its_router_ahead_and_its_fan_in_behind/1]).
-export([a_fanout_may_end_in_its_workers/1]).
-export([a_template_without_nodes_is_an_error/1]).
-export([a_name_twice_is_an_error/1]).
-export([an_edge_twice_is_an_error/1]).
-export([an_edge_to_nowhere_is_an_error/1]).
-export([what_is_no_node_or_edge_is_an_error/1]).
-export([a_cycle_is_named_in_its_order/1]).
-export([a_node_that_feeds_itself_is_a_cycle/1]).
-export([unfolding_makes_a_chain_or_what_it_names/1]).
-export([unfolding_without_end_is_stopped/1]).
-export([a_digraph_has_the_same_vertices_and_edges/1]).
-export([dot_quotes_any_name/1]).
-export([an_error_passes_through_start_link/1]).
-export([edges_downward_never_make_a_cycle/1]).
-export([an_edge_back_always_makes_a_cycle/1]).

all() ->
    [Case || {Case, 1} <- ?MODULE:module_info(exports), Case =/= module_info].

task(Name) ->
    coop:task(Name, fun(S, D) -> {S, D} end, #{}).

a_pipeline_feeds_each_node_from_the_one_before(_) ->
    T = coop_flow:pipeline([task(a), task(b), task(c)]),
    [{a, b}, {b, c}] = coop_flow:edges(T),
    [] = coop_flow:edges(coop_flow:pipeline([task(a)])).

a_fanout_has_its_router_ahead_and_its_fan_in_behind(_) ->
    T = coop_flow:fanout(task(r), [task(w1), task(w2)], task(f)),
    [{r, w1}, {r, w2}, {w1, f}, {w2, f}] = coop_flow:edges(T),
    4 = length(coop_flow:nodes(T)).

a_fanout_may_end_in_its_workers(_) ->
    [{r, w}] = coop_flow:edges(coop_flow:fanout(task(r), [task(w)], none)).

a_template_without_nodes_is_an_error(_) ->
    {error, empty} = coop_flow:pipeline([]),
    {error, empty} = coop_flow:graph([], []).

a_name_twice_is_an_error(_) ->
    {error, {duplicate_node, a}} = coop_flow:pipeline([task(a), task(b), task(a)]).

an_edge_twice_is_an_error(_) ->
    {error, {duplicate_edge, {a, b}}} = coop_flow:graph([task(a), task(b)], [{a, b}, {a, b}]).

an_edge_to_nowhere_is_an_error(_) ->
    {error, {unknown_node, z}} = coop_flow:graph([task(a)], [{a, z}]),
    {error, {unknown_node, z}} = coop_flow:graph([task(a)], [{z, a}]).

what_is_no_node_or_edge_is_an_error(_) ->
    {error, {bad_name, "a"}} = coop_flow:pipeline([task("a")]),
    {error, {bad_node, hello}} = coop_flow:pipeline([hello]),
    {error, {bad_edge, a}} = coop_flow:graph([task(a)], [a]).

a_cycle_is_named_in_its_order(_) ->
    Nodes = [task(N) || N <- [a, b, c, d]],
    {error, {cycle, [b, c, d]}} = coop_flow:graph(Nodes, [{a, b}, {b, c}, {c, d}, {d, b}]).

a_node_that_feeds_itself_is_a_cycle(_) ->
    {error, {cycle, [a]}} = coop_flow:graph([task(a)], [{a, a}]).

unfolding_makes_a_chain_or_what_it_names(_) ->
    Next = fun
        (1) -> {task(a), 2};
        (2) -> {task(b), 3};
        (3) -> {task(c), [a, b], 4};
        (4) -> stop
    end,
    [{a, b}, {a, c}, {b, c}] = coop_flow:edges(coop_flow:unfold(1, Next, #{})).

unfolding_without_end_is_stopped(_) ->
    Next = fun(N) -> {task(list_to_atom(integer_to_list(N))), N + 1} end,
    {error, {too_many_nodes, 5}} = coop_flow:unfold(1, Next, #{limit => 5}).

a_digraph_has_the_same_vertices_and_edges(_) ->
    T = coop_flow:fanout(task(r), [task(w), coop:native(n, p, t, #{})], none),
    G = coop_flow:to_digraph(T),
    [n, r, w] = lists:sort(digraph:vertices(G)),
    [n, w] = lists:sort(digraph:out_neighbours(G, r)),
    {n, native} = digraph:vertex(G, n),
    true = digraph:delete(G).

dot_quotes_any_name(_) ->
    T = coop_flow:pipeline([task('a "b" \\'), coop:native(n, p, t, #{})]),
    Dot = iolist_to_binary(coop_flow:to_dot(T)),
    {_, _} = binary:match(Dot, <<"\"a \\\"b\\\" \\\\\" -> \"n\";">>),
    {_, _} = binary:match(Dot, <<"\"n\" [shape=box]">>).

an_error_passes_through_start_link(_) ->
    {error, empty} = coop:start_link(coop_flow:pipeline([]), #{}).

%%% Properties

edges_downward_never_make_a_cycle(_) ->
    check(
        ?FORALL({N, Edges}, dag(), begin
            T = coop_flow:graph(tasks(N), Edges),
            coop_flow:edges(T) =:= Edges andalso length(coop_flow:nodes(T)) =:= N
        end)
    ).

an_edge_back_always_makes_a_cycle(_) ->
    check(
        ?FORALL(
            {N, Edges0},
            dag(),
            begin
                %% a chain through all, and an edge from somewhere to before it
                Chain = [{name(I), name(I + 1)} || I <- lists:seq(1, N - 1)],
                Edges = lists:usort(Edges0 ++ Chain),
                ?FORALL(
                    {From, To},
                    ?SUCHTHAT({A, B}, {range(1, N), range(1, N)}, A >= B),
                    begin
                        Back = {name(From), name(To)},
                        {error, {cycle, Cycle}} = coop_flow:graph(tasks(N), Edges ++ [Back]),
                        Steps = lists:zip(Cycle, tl(Cycle) ++ [hd(Cycle)]),
                        Steps -- [Back | Edges] =:= []
                    end
                )
            end
        )
    ).

check(Property) ->
    esp_test_lib:holds(Property, 300).

dag() ->
    ?LET(N, range(1, 12), ?LET(Edges, edges(N), {N, Edges})).

edges(N) ->
    ?LET(
        Pairs,
        proper_types:list({range(1, N), range(1, N)}),
        lists:usort([{name(A), name(B)} || {A, B} <- Pairs, A < B])
    ).

range(From, To) -> proper_types:integer(From, To).

tasks(N) -> [task(name(I)) || I <- lists:seq(1, N)].

name(I) -> list_to_atom("n" ++ integer_to_list(I)).
