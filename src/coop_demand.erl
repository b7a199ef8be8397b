%% How many results the process behind `{demand, Pid}' has asked for and not had,
%% and which nodes of the last tier have some. A node has as many granted as it
%% has ready, at most; those that want share what was asked for, in turn.
-module(coop_demand).

-export([new/0]).
-export([ask/2]).
-export([want/4]).
-export([again/2]).
-export([describe/1]).
-export_type([demand/0]).

-record(demand, {
    asked = 0 :: non_neg_integer() | infinity,
    %% to the nodes there are now
    granted = 0 :: non_neg_integer(),
    turns = queue:new() :: queue:queue(pid()),
    wants = #{} :: #{pid() => {coop_edges:edge(), pos_integer()}}
}).
-opaque demand() :: #demand{}.

-spec new() -> demand().
new() ->
    #demand{}.

%% @doc So many more are asked for; of a process that is gone, all.
-spec ask(pos_integer() | infinity, demand()) -> demand().
ask(N, D = #demand{asked = Asked}) when is_integer(N), is_integer(Asked) ->
    serve(D#demand{asked = Asked + N});
ask(_N, D) ->
    serve(D#demand{asked = infinity}).

%% @doc A node has so many more.
-spec want(pid(), coop_edges:edge(), pos_integer(), demand()) -> demand().
want(Node, Edge, N, D = #demand{turns = Turns, wants = Wants}) ->
    case Wants of
        #{Node := {Edge, Before}} ->
            serve(D#demand{wants = Wants#{Node := {Edge, Before + N}}});
        #{} ->
            serve(D#demand{turns = queue:in(Node, Turns), wants = Wants#{Node => {Edge, N}}})
    end.

%% @doc Its nodes are others now: what those had ready has gone with them, and what
%% they were granted beyond those `Delivered' (modulo 2^32) is asked for again.
-spec again(non_neg_integer(), demand()) -> demand().
again(Delivered, #demand{asked = Asked, granted = Granted}) ->
    Left = (Granted - Delivered) band 16#FFFFFFFF,
    #demand{asked = if Asked =:= infinity -> infinity; true -> Asked + Left end}.

%% @doc What is not there yet, and what is not asked for yet.
-spec describe(demand()) -> #{asked := non_neg_integer() | infinity, ready := non_neg_integer()}.
describe(#demand{asked = Asked, wants = Wants}) ->
    #{asked => Asked, ready => lists:sum([N || {_Edge, N} <- maps:values(Wants)])}.

%% A round of equal shares after the other, while there is something to share.
serve(D = #demand{asked = Asked, wants = Wants}) when Asked =:= 0; map_size(Wants) =:= 0 ->
    D;
serve(D = #demand{asked = infinity, wants = Wants}) ->
    serve_round(map_size(Wants), infinity, D);
serve(D = #demand{asked = Asked, wants = Wants}) ->
    Nodes = map_size(Wants),
    serve_round(Nodes, max(1, Asked div Nodes), D).

serve_round(Nodes, _Share, D = #demand{asked = Asked}) when Nodes =:= 0; Asked =:= 0 ->
    serve(D);
serve_round(Nodes, Share, D = #demand{asked = Asked, turns = Turns, wants = Wants}) ->
    #demand{granted = Granted} = D,
    {{value, Node}, Turns2} = queue:out(Turns),
    {Edge, Want} = maps:get(Node, Wants),
    %% an atom is more than any number
    Grant = min(Want, Share),
    Node ! {'$coop', credit, Edge, Grant},
    D2 =
        case Want - Grant of
            0 ->
                D#demand{turns = Turns2, wants = maps:remove(Node, Wants)};
            More ->
                D#demand{turns = queue:in(Node, Turns2), wants = Wants#{Node := {Edge, More}}}
        end,
    Left = if Asked =:= infinity -> infinity; true -> Asked - Grant end,
    serve_round(Nodes - 1, Share, D2#demand{asked = Left, granted = Granted + Grant}).
