%% What a process of a co-op on a VM has to do with nodes made while the co-op
%% runs: as the one that makes them (the workers of its `consume', and nodes that
%% its task has started), and as one of them. c_src/coop/late.hpp says how such
%% nodes are fed, where their results go, and how a barrier gets past them.
-module(coop_late).

-export([new/2]).
-export([origin/1]).
-export([workers/1]).
-export([set_workers/2]).
%% nodes that the task has started
-export([start/4]).
-export([stop/2]).
-export([take/2]).
-export([grant/3]).
-export([tell/2]).
-export([passed/2]).
-export([done/2]).
-export([is_through/1]).
-export([info/1]).

-type origin() :: none | {Maker :: pid(), coop_edges:edge()}.
-record(late, {
    origin :: origin(),
    workers :: none | {coop_edges:edge(), coop_workers:workers()},
    edges = coop_edges:new() :: coop_edges:edges(),
    started = #{} :: #{coop_edges:edge() => {Window :: pos_integer(), running | stopping}},
    %% who has yet to pass a barrier, or to end
    awaited = #{} :: #{coop_edges:edge() => []}
}).
-opaque late() :: #late{}.
-export_type([late/0, origin/0]).

-spec new(origin(), none | {coop_edges:edge(), coop_workers:workers()}) -> late().
new(Origin, Workers) ->
    #late{origin = Origin, workers = Workers}.

-spec origin(late()) -> origin().
origin(#late{origin = Origin}) -> Origin.

-spec workers(late()) -> none | {coop_edges:edge(), coop_workers:workers()}.
workers(#late{workers = Workers}) -> Workers.

-spec set_workers({coop_edges:edge(), coop_workers:workers()}, late()) -> late().
set_workers(Workers, L) -> L#late{workers = Workers}.

-spec start(coop_edges:edge(), pid(), pos_integer(), late()) -> late().
start(Edge, Pid, Window, L = #late{edges = Edges, started = Started}) ->
    L#late{
        edges = coop_edges:add_out(Edge, Pid, Window, Edges),
        started = Started#{Edge => {Window, running}}
    }.

%% @doc What was sent on this edge was the last.
-spec stop(coop_edges:edge(), late()) -> late().
stop(Edge, L = #late{started = Started, edges = Edges}) ->
    case Started of
        #{Edge := {Window, running}} ->
            coop_edges:receiver(Edge, Edges) ! {'$coop', last, Edge},
            L#late{started = Started#{Edge := {Window, stopping}}};
        #{} ->
            L
    end.

%% @doc Credit for one datum; `none' for a node that has ended.
-spec take(coop_edges:edge(), late()) -> {ok, coop_edges:process(), late()} | full | none.
take(Edge, L = #late{edges = Edges}) ->
    case coop_edges:take(Edge, Edges) of
        {ok, Pid, Edges2} -> {ok, Pid, L#late{edges = Edges2}};
        Other -> Other
    end.

-spec grant(coop_edges:edge(), coop_edges:units(), late()) -> late().
grant(Edge, Units, L = #late{edges = Edges}) ->
    L#late{edges = coop_edges:grant(Edge, Units, Edges)}.

%% @doc Passes a barrier to all of them, or `last'; from then on they are awaited.
-spec tell(last | coop_process:barrier(), late()) -> late().
tell(last, L = #late{started = Started}) ->
    await(lists:foldl(fun stop/2, L, maps:keys(Started)));
tell(Barrier, L = #late{started = Started, edges = Edges}) ->
    maps:foreach(
        fun
            (Edge, {_Window, running}) ->
                coop_edges:receiver(Edge, Edges) ! {'$coop', barrier, Edge, Barrier};
            (_Edge, {_Window, stopping}) ->
                ok
        end,
        Started
    ),
    await(L).

await(L = #late{started = Started}) ->
    L#late{awaited = maps:map(fun(_Edge, _) -> [] end, Started)}.

-spec passed(coop_edges:edge(), late()) -> late().
passed(Edge, L = #late{awaited = Awaited}) ->
    L#late{awaited = maps:remove(Edge, Awaited)}.

%% @doc It has ended; so many data it has not taken. Of a worker none.
-spec done(coop_edges:edge(), late()) -> {Lost :: non_neg_integer(), late()}.
done(Edge, L = #late{workers = {Edge, Workers}}) ->
    {0, L#late{workers = {Edge, coop_workers:done(Workers)}}};
done(Edge, L = #late{started = Started, edges = Edges}) ->
    case Started of
        #{Edge := {Window, _}} ->
            Lost = Window - coop_edges:credit(Edge, Edges),
            {Lost,
                passed(Edge, L#late{
                    started = maps:remove(Edge, Started),
                    edges = coop_edges:drop_out(Edge, Edges)
                })};
        #{} ->
            {0, L}
    end.

%% @doc Nothing is awaited any more.
-spec is_through(late()) -> boolean().
is_through(#late{awaited = Awaited, workers = Workers}) ->
    map_size(Awaited) =:= 0 andalso
        case Workers of
            none -> true;
            {_Edge, Of} -> coop_workers:is_idle(Of)
        end.

-spec info(late()) -> map().
info(#late{workers = Workers, started = Started}) ->
    maps:from_list(
        [{workers, coop_workers:info(Of)} || {_Edge, Of} <- [Workers]] ++
            [{started, map_size(Started)} || map_size(Started) > 0]
    ).
