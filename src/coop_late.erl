%% What a process of a co-op on a VM has to do with nodes made while the co-op
%% runs: as the one that makes them (the workers of its `consume', and nodes that
%% its task has started), and as one of them. c_src/coop/late.hpp says how such
%% nodes are fed, where their results go, and how a barrier gets past them.
-module(coop_late).

-export([new/2]).
-export([origin/1]).
-export([is_used/1]).
-export([used/2]).
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
    %% a worker's end is in order once it has had its datum
    is_used :: boolean(),
    workers :: none | {coop_edges:edge(), coop_workers:workers()},
    edges = coop_edges:new() :: coop_edges:edges(),
    started = #{} :: #{
        coop_edges:edge() => {pid(), Window :: pos_integer(), running | stopping}
    },
    edge_to = #{} :: #{pid() => coop_edges:edge()},
    %% who has yet to pass a barrier, or to end
    awaited = #{} :: #{coop_edges:edge() => []}
}).
-opaque late() :: #late{}.
-export_type([late/0, origin/0]).

-spec new(origin() | {worker, origin()}, none | {coop_edges:edge(), coop_workers:workers()}) -> late().
new({worker, Origin}, Workers) ->
    #late{origin = Origin, workers = Workers, is_used = false};
new(Origin, Workers) ->
    #late{origin = Origin, workers = Workers, is_used = true}.

%% @doc Whether its end with `normal' is in order.
-spec is_used(late()) -> boolean().
is_used(#late{is_used = IsUsed}) -> IsUsed.

%% @doc Something came on this edge.
-spec used(coop_edges:edge(), late()) -> late().
used(Edge, L = #late{is_used = false, origin = {_, Edge}}) -> L#late{is_used = true};
used(_Edge, L) -> L.

-spec origin(late()) -> origin().
origin(#late{origin = Origin}) -> Origin.

-spec workers(late()) -> none | {coop_edges:edge(), coop_workers:workers()}.
workers(#late{workers = Workers}) -> Workers.

-spec set_workers({coop_edges:edge(), coop_workers:workers()}, late()) -> late().
set_workers(Workers, L) -> L#late{workers = Workers}.

-spec start(coop_edges:edge(), pid(), pos_integer(), late()) -> late().
start(Edge, Pid, Window, L = #late{edges = Edges, started = Started, edge_to = EdgeTo}) ->
    L#late{
        edges = coop_edges:add_out(Edge, Pid, Window, Edges),
        started = Started#{Edge => {Pid, Window, running}},
        edge_to = EdgeTo#{Pid => Edge}
    }.

%% @doc What was sent to it was the last.
-spec stop(pid(), late()) -> late().
stop(Pid, L = #late{started = Started, edge_to = EdgeTo}) ->
    case EdgeTo of
        #{Pid := Edge} ->
            {Pid, Window, running} = maps:get(Edge, Started),
            Pid ! {'$coop', last, Edge},
            L#late{
                started = Started#{Edge := {Pid, Window, stopping}},
                edge_to = maps:remove(Pid, EdgeTo)
            };
        #{} ->
            L
    end.

%% @doc Credit for one datum; `none' if it has ended, was stopped, or is none of
%% ours.
-spec take(pid(), late()) -> {ok, coop_edges:edge(), late()} | full | none.
take(Pid, L = #late{edges = Edges, edge_to = EdgeTo}) ->
    case EdgeTo of
        #{Pid := Edge} ->
            case coop_edges:take(Edge, Edges) of
                {ok, Pid, Edges2} -> {ok, Edge, L#late{edges = Edges2}};
                full -> full
            end;
        #{} ->
            none
    end.

-spec grant(coop_edges:edge(), coop_edges:units(), late()) -> late().
grant(Edge, Units, L = #late{edges = Edges}) ->
    L#late{edges = coop_edges:grant(Edge, Units, Edges)}.

%% @doc Passes a barrier to all of them, or `last'; from then on they are awaited.
-spec tell(last | coop_process:barrier(), late()) -> late().
tell(last, L = #late{edge_to = EdgeTo}) ->
    await(lists:foldl(fun stop/2, L, maps:keys(EdgeTo)));
tell(Barrier, L = #late{edge_to = EdgeTo}) ->
    maps:foreach(fun(Pid, Edge) -> Pid ! {'$coop', barrier, Edge, Barrier} end, EdgeTo),
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
done(Edge, L = #late{started = Started, edges = Edges, edge_to = EdgeTo}) ->
    case Started of
        #{Edge := {Pid, Window, _}} ->
            Lost = Window - coop_edges:credit(Edge, Edges),
            {Lost,
                passed(Edge, L#late{
                    started = maps:remove(Edge, Started),
                    edge_to = maps:remove(Pid, EdgeTo),
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
