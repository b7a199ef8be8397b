%% The workers of a router by `consume', as the router has them: those that wait
%% to be used, each for one datum, and how many are at work. Knows no process.
%%
%% Credit for the edge to them is how many data may be sent: to each fresh worker
%% one, and to no more at a time than the edge's window has.
-module(coop_workers).

-export([new/5]).
-export([credit/1]).
-export([take/1]).
-export([add/2]).
-export([done/1]).
-export([order/1]).
-export([is_idle/1]).
-export([beyond/1]).
-export([supplier/1]).
-export([info/1]).

-record(workers, {
    fresh = queue:new() :: queue:queue(pid()),
    unused = 0 :: non_neg_integer(),
    busy = 0 :: non_neg_integer(),
    done = 0 :: non_neg_integer(),
    threshold :: non_neg_integer(),
    most :: pos_integer(),
    %% the kill switch that makes them, and whether it has been asked for more
    supplier :: pid(),
    is_ordered = false :: boolean(),
    %% where their edges lead
    beyond :: [{coop_edges:edge(), pid()}]
}).
-opaque workers() :: #workers{}.
-export_type([workers/0]).

%% @doc `Threshold' unused workers are few, `Most' may be at work at once.
-spec new([pid()], non_neg_integer(), pos_integer(), pid(), [{coop_edges:edge(), pid()}]) ->
    workers().
new(Fresh, Threshold, Most, Supplier, Beyond) ->
    add(Fresh, #workers{
        threshold = Threshold, most = Most, supplier = Supplier, beyond = Beyond
    }).

-spec credit(workers()) -> non_neg_integer().
credit(#workers{unused = Unused, busy = Busy, most = Most}) ->
    min(Unused, Most - Busy).

%% @doc One that waits; there is credit.
-spec take(workers()) -> {pid(), workers()}.
take(W = #workers{fresh = Fresh, unused = N, busy = Busy}) ->
    {{value, Pid}, Fresh2} = queue:out(Fresh),
    {Pid, W#workers{fresh = Fresh2, unused = N - 1, busy = Busy + 1}}.

-spec add([pid()], workers()) -> workers().
add(Pids, W = #workers{fresh = Fresh, unused = N}) ->
    W#workers{
        fresh = queue:join(Fresh, queue:from_list(Pids)),
        unused = N + length(Pids),
        is_ordered = false
    }.

%% @doc One has ended, its results being where they go.
-spec done(workers()) -> workers().
done(W = #workers{busy = 0}) -> W;
done(W = #workers{busy = Busy, done = Done}) -> W#workers{busy = Busy - 1, done = Done + 1}.

%% @doc Whom to ask for more, if that is due; once until they come.
-spec order(workers()) -> {pid(), workers()} | enough.
order(W = #workers{is_ordered = false, unused = N, threshold = Threshold}) when N =< Threshold ->
    {W#workers.supplier, W#workers{is_ordered = true}};
order(_W) ->
    enough.

-spec is_idle(workers()) -> boolean().
is_idle(#workers{busy = Busy}) -> Busy =:= 0.

-spec beyond(workers()) -> [{coop_edges:edge(), pid()}].
beyond(#workers{beyond = Beyond}) -> Beyond.

-spec supplier(workers()) -> pid().
supplier(#workers{supplier = Supplier}) -> Supplier.

-spec info(workers()) -> #{fresh | busy | done => non_neg_integer()}.
info(#workers{unused = Unused, busy = Busy, done = Done}) ->
    #{fresh => Unused, busy => Busy, done => Done}.
