%% What a process of a body that may be restarted has done, in words of shared
%% memory that outlive it: how many data it has sent on each edge, and how many
%% of those it took it is done with. Killed, it cannot say so itself.
%%
%% A word is written by one `atomics:put/3' with the send right behind it: a
%% process is only killed where it may be scheduled out, which is before a call
%% and not between these two. So a word tells of both at once, the datum sent and,
%% if that was the last of its results, the datum taken that is done.
-module(coop_ledger).

-export([new/1]).
-export([reset/2]).
-export([entry/4]).
-export([sent/2]).
-export([left/2]).
-export_type([ledger/0]).

%% Both counts go round at 2^32; only differences of a few windows are looked at.
-define(MASK, 16#FFFFFFFF).
%% The slot of whatever leaves by no edge of the template.
-define(OUT, 1).

-type slot() :: pos_integer().
-opaque ledger() :: {atomics:atomics_ref(), #{coop_edges:edge() => slot()}}.

%% @doc Of a process with these edges out, on which so many data wait already.
-spec new([{coop_edges:edge(), non_neg_integer()}]) -> ledger().
new(Edges) ->
    Slots = lists:zip([Edge || {Edge, _} <- Edges], lists:seq(2, length(Edges) + 1)),
    Ledger = {atomics:new(length(Edges) + 1, [{signed, false}]), maps:from_list(Slots)},
    reset(Edges, Ledger),
    Ledger.

-spec reset([{coop_edges:edge(), non_neg_integer()}], ledger()) -> ok.
reset(Edges, {Ref, Slots}) ->
    atomics:put(Ref, ?OUT, 0),
    lists:foreach(
        fun({Edge, Sent}) -> atomics:put(Ref, maps:get(Edge, Slots), Sent bsl 32) end, Edges
    ).

%% @doc What to put where, just ahead of sending `More' data on an edge, for a
%% process that is then done with `Done' of those it took.
-spec entry(coop_edges:edge(), non_neg_integer(), non_neg_integer(), ledger()) ->
    {atomics:atomics_ref(), slot(), non_neg_integer()}.
entry(Edge, More, Done, {Ref, Slots}) ->
    Slot = maps:get(Edge, Slots, ?OUT),
    Sent = (atomics:get(Ref, Slot) bsr 32 + More) band ?MASK,
    {Ref, Slot, Sent bsl 32 bor (Done band ?MASK)}.

%% @doc How many data went on an edge of the template, or (0) how many results left
%% the co-op.
-spec sent(coop_edges:edge(), ledger()) -> non_neg_integer().
sent(Edge, {Ref, Slots}) ->
    atomics:get(Ref, maps:get(Edge, Slots, ?OUT)) bsr 32.

%% @doc How many of `Sent' data to this process it is not done with.
-spec left(non_neg_integer(), ledger()) -> non_neg_integer().
left(Sent, {Ref, Slots}) ->
    lists:min([
        (Sent - atomics:get(Ref, Slot)) band ?MASK
     || Slot <- [?OUT | maps:values(Slots)]
    ]).
