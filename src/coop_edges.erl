%% The edges of one process: what may still be sent on each of those that go
%% out, and what is owed to the sender of each of those that come in. Units are
%% data inside a co-op and bytes from a relaying VM; only the two ends of an
%% edge need to agree, so nothing here knows which.
-module(coop_edges).

-export([new/0]).
%% in
-export([add_in/5]).
-export([drop_in/2]).
-export([join/5]).
-export([barred/2]).
-export([in_size/1]).
-export([is_in/2]).
-export([senders/1]).
-export([owe/3]).
-export([pay_all/1]).
%% out
-export([add_out/4]).
-export([drop_out/2]).
-export([close/1]).
-export([is_closed/1]).
-export([outs/1]).
-export([receiver/2]).
-export([take/2]).
-export([least_loaded/2]).
-export([grant/3]).
-export([has_credit/2]).
-export([credit/2]).

-type edge() :: non_neg_integer().
-type units() :: non_neg_integer().
%% A registered name of another node is as good to send to as a pid. `workers' are
%% those of a `consume'.
-type process() :: pid() | {atom(), node()} | workers.
%% Nobody has so many; but who knows an edge's number could pretend to.
-define(MOST_JOINED, (1 bsl 20)).

-record(edges, {
    %% Edge => {Sender, the sender's number, a quarter of its window}
    in = #{} :: #{edge() => {pid(), edge(), units()}},
    owed = #{} :: #{edge() => units()},
    %% of nodes made late: the edge whose barriers each of theirs waits for
    behind = #{} :: #{edge() => edge()},
    %% Edge => {Receiver, Credit}
    out = #{} :: #{edge() => {process(), units() | infinity | closed}},
    %% edges of `out` that have credit
    open = 0 :: non_neg_integer(),
    %% what least_loaded/2 chose last
    last = 0 :: edge()
}).
-opaque edges() :: #edges{}.
-export_type([edges/0, edge/0, units/0, process/0]).

-spec new() -> edges().
new() ->
    #edges{}.

%% @doc An edge that comes in: `Edge' here, `Theirs' at its sender.
-spec add_in(edge(), pid(), edge(), units(), edges()) -> edges().
add_in(Edge, Sender, Theirs, Window, Edges = #edges{in = In}) ->
    Edges#edges{in = In#{Edge => {Sender, Theirs, max(1, Window div 4)}}}.

-spec drop_in(edge(), edges()) -> edges().
drop_in(Edge, Edges = #edges{in = In, owed = Owed, behind = Behind}) ->
    Edges#edges{
        in = maps:remove(Edge, In),
        owed = maps:remove(Edge, Owed),
        behind = maps:remove(Edge, Behind)
    }.

%% @doc An edge from a node made late, on which no barrier comes: while one is
%% held on `Barred', so is what comes on this one. False from a stranger.
-spec join(edge(), pid(), Barred :: edge(), units(), edges()) -> {ok, edges()} | false.
join(Edge, Sender, Barred, Window, Edges = #edges{in = In, behind = Behind}) ->
    IsPossible =
        is_map_key(Barred, In) andalso not is_map_key(Barred, Behind) andalso
            not is_map_key(Edge, In) andalso map_size(Behind) < ?MOST_JOINED,
    case IsPossible of
        true ->
            Joined = add_in(Edge, Sender, Edge, Window, Edges),
            {ok, Joined#edges{behind = Behind#{Edge => Barred}}};
        false ->
            false
    end.

%% @doc The edge whose barriers hold back what comes on this one.
-spec barred(edge(), edges()) -> edge().
barred(Edge, #edges{behind = Behind}) when map_size(Behind) =:= 0 ->
    Edge;
barred(Edge, #edges{behind = Behind}) ->
    maps:get(Edge, Behind, Edge).

%% @doc How many edges there are on which barriers come.
-spec in_size(edges()) -> non_neg_integer().
in_size(#edges{in = In, behind = Behind}) ->
    map_size(In) - map_size(Behind).

-spec is_in(edge(), edges()) -> boolean().
is_in(Edge, #edges{in = In}) ->
    is_map_key(Edge, In).

%% @doc Who sends, and the number that each knows its edge by.
-spec senders(edges()) -> [{pid(), edge()}].
senders(#edges{in = In}) ->
    [{Sender, Theirs} || {Sender, Theirs, _Quarter} <- maps:values(In)].

%% @doc A datum left the queue. The sender hears of it when a quarter of its
%% window has gathered, so it never misses more than that.
-spec owe(edge(), units(), edges()) -> edges().
owe(Edge, Units, Edges = #edges{in = In, owed = Owed}) ->
    case In of
        #{Edge := {Sender, Theirs, Quarter}} ->
            Debt = maps:get(Edge, Owed, 0) + Units,
            if
                Debt >= Quarter ->
                    pay(Sender, Theirs, Debt),
                    Edges#edges{owed = maps:remove(Edge, Owed)};
                true ->
                    Edges#edges{owed = Owed#{Edge => Debt}}
            end;
        #{} ->
            Edges
    end.

%% @doc What is owed to everyone, before the end.
-spec pay_all(edges()) -> ok.
pay_all(#edges{in = In, owed = Owed}) ->
    maps:foreach(
        fun(Edge, Units) ->
            {Sender, Theirs, _Quarter} = maps:get(Edge, In),
            pay(Sender, Theirs, Units)
        end,
        Owed
    ).

pay(Sender, Edge, Units) ->
    Sender ! {'$coop', credit, Edge, Units},
    ok.

%% @doc An edge that goes out; one without bounds has `infinity'.
-spec add_out(edge(), process(), units() | infinity, edges()) -> edges().
add_out(Edge, Receiver, Credit, Edges0) ->
    Edges = #edges{out = Out, open = Open} = drop_out(Edge, Edges0),
    Edges#edges{out = Out#{Edge => {Receiver, Credit}}, open = Open + is_open(Credit)}.

-spec drop_out(edge(), edges()) -> edges().
drop_out(Edge, Edges = #edges{out = Out, open = Open}) ->
    case maps:take(Edge, Out) of
        {{_Receiver, Credit}, Out2} ->
            Edges#edges{out = Out2, open = Open - is_open(Credit)};
        error ->
            Edges
    end.

is_open(closed) -> 0;
is_open(0) -> 0;
is_open(_Credit) -> 1.

%% @doc Nothing can be sent on any edge, whatever credit still comes for it,
%% until it is added again.
-spec close(edges()) -> edges().
close(Edges = #edges{out = Out}) ->
    Edges#edges{out = maps:map(fun(_Edge, {Pid, _}) -> {Pid, closed} end, Out), open = 0}.

-spec is_closed(edges()) -> boolean().
is_closed(#edges{out = Out}) ->
    lists:any(fun({_Receiver, Credit}) -> Credit =:= closed end, maps:values(Out)).

-spec outs(edges()) -> [{edge(), process()}].
outs(#edges{out = Out}) ->
    [{Edge, Pid} || {Edge, {Pid, _Credit}} <- lists:sort(maps:to_list(Out))].

-spec receiver(edge(), edges()) -> process().
receiver(Edge, #edges{out = Out}) ->
    {Pid, _Credit} = maps:get(Edge, Out),
    Pid.

%% @doc Takes the credit for one datum, if there is any.
-spec take(edge(), edges()) -> {ok, process(), edges()} | full | none.
take(Edge, Edges = #edges{out = Out, open = Open}) ->
    case Out of
        #{Edge := {Pid, infinity}} ->
            {ok, Pid, Edges};
        #{Edge := {_Pid, Credit}} when Credit =:= 0; Credit =:= closed ->
            full;
        #{Edge := {Pid, 1}} ->
            {ok, Pid, Edges#edges{out = Out#{Edge := {Pid, 0}}, open = Open - 1}};
        #{Edge := {Pid, Credit}} ->
            {ok, Pid, Edges#edges{out = Out#{Edge := {Pid, Credit - 1}}}};
        #{} ->
            none
    end.

%% @doc The way whose edges have the fewest units outstanding, and so the most
%% credit, as all edges of a process have one window; of several edges the fullest
%% counts, so that all have credit. Among equals each in its turn.
-spec least_loaded([coop_dataflow:way()], edges()) -> {ok, coop_dataflow:way(), edges()} | full.
least_loaded(Ways, Edges = #edges{out = Out, last = Last}) ->
    Best = lists:foldl(
        fun([First | _] = Way, Acc) ->
            max({least_credit(Way, Out), First > Last, -First, Way}, Acc)
        end,
        none,
        Ways
    ),
    case Best of
        {Credit, _, _, _} when Credit =:= 0; Credit =:= closed -> full;
        {_Credit, _, Negative, Way} -> {ok, Way, Edges#edges{last = -Negative}}
    end.

least_credit([Edge], Out) ->
    {_Receiver, Credit} = map_get(Edge, Out),
    Credit;
least_credit([Edge | More], Out) ->
    min(least_credit([Edge], Out), least_credit(More, Out)).

-spec grant(edge(), units(), edges()) -> edges().
grant(Edge, Units, Edges = #edges{out = Out, open = Open}) ->
    case Out of
        #{Edge := {Pid, 0}} when Units > 0 ->
            Edges#edges{out = Out#{Edge := {Pid, Units}}, open = Open + 1};
        #{Edge := {Pid, Credit}} when is_integer(Credit) ->
            Edges#edges{out = Out#{Edge := {Pid, Credit + Units}}};
        #{} ->
            Edges
    end.

-spec credit(edge(), edges()) -> units() | infinity | closed.
credit(Edge, #edges{out = Out}) ->
    {_Receiver, Credit} = maps:get(Edge, Out),
    Credit.

%% @doc Whether one edge at least, or all of them, would take a datum; true without
%% any edge, since then nothing can block.
-spec has_credit(any | all, edges()) -> boolean().
has_credit(any, #edges{out = Out, open = Open}) ->
    Open > 0 orelse map_size(Out) =:= 0;
has_credit(all, #edges{out = Out, open = Open}) ->
    Open =:= map_size(Out).
