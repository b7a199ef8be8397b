%% The edges of one process: what may still be sent on each of those that go
%% out, and what is owed to the sender of each of those that come in. Units are
%% data inside a co-op and bytes from a relaying VM; only the two ends of an
%% edge need to agree, so nothing here knows which.
-module(coop_edges).

-export([new/0]).
%% in
-export([add_in/5]).
-export([drop_in/2]).
-export([in_size/1]).
-export([is_in/2]).
-export([senders/1]).
-export([owe/3]).
%% out
-export([add_out/4]).
-export([drop_out/2]).
-export([close/1]).
-export([outs/1]).
-export([receiver/2]).
-export([take/2]).
-export([least_loaded/1]).
-export([grant/3]).
-export([has_credit/2]).
-export([credit/2]).

-type edge() :: non_neg_integer().
-type units() :: non_neg_integer().
%% A registered name of another node is as good to send to as a pid.
-type process() :: pid() | {atom(), node()}.
-record(edges, {
    %% Edge => {Sender, the sender's number, a quarter of its window}
    in = #{} :: #{edge() => {pid(), edge(), units()}},
    owed = #{} :: #{edge() => units()},
    %% Edge => {Receiver, Credit}
    out = #{} :: #{edge() => {process(), units() | infinity | closed}},
    %% edges of `out` that have credit
    open = 0 :: non_neg_integer(),
    %% what least_loaded/1 chose last
    last = 0 :: edge()
}).
-opaque edges() :: #edges{}.
-export_type([edges/0, edge/0, units/0]).

-spec new() -> edges().
new() ->
    #edges{}.

%% @doc An edge that comes in: `Edge' here, `Theirs' at its sender.
-spec add_in(edge(), pid(), edge(), units(), edges()) -> edges().
add_in(Edge, Sender, Theirs, Window, Edges = #edges{in = In}) ->
    Edges#edges{in = In#{Edge => {Sender, Theirs, max(1, Window div 4)}}}.

-spec drop_in(edge(), edges()) -> edges().
drop_in(Edge, Edges = #edges{in = In, owed = Owed}) ->
    Edges#edges{in = maps:remove(Edge, In), owed = maps:remove(Edge, Owed)}.

-spec in_size(edges()) -> non_neg_integer().
in_size(#edges{in = In}) ->
    map_size(In).

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

pay(Sender, Edge, Units) ->
    Sender ! {'$coop', credit, Edge, Units},
    ok.

%% @doc An edge that goes out; one without bounds has `infinity'.
-spec add_out(edge(), process(), units() | infinity, edges()) -> edges().
add_out(Edge, Receiver, Credit, Edges = #edges{out = Out}) ->
    reopen(Edges#edges{out = Out#{Edge => {Receiver, Credit}}}).

-spec drop_out(edge(), edges()) -> edges().
drop_out(Edge, Edges = #edges{out = Out}) ->
    reopen(Edges#edges{out = maps:remove(Edge, Out)}).

reopen(Edges = #edges{out = Out}) ->
    Edges#edges{
        open = length([
            E
         || {E, {_Pid, Credit}} <- maps:to_list(Out), Credit =/= closed, Credit > 0
        ])
    }.

%% @doc Nothing can be sent on any edge, whatever credit still comes for it,
%% until it is added again.
-spec close(edges()) -> edges().
close(Edges = #edges{out = Out}) ->
    Edges#edges{out = maps:map(fun(_Edge, {Pid, _}) -> {Pid, closed} end, Out), open = 0}.

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

%% @doc The edge with the fewest units outstanding, and so with the most credit,
%% as all edges of a process have one window; among equals each in its turn.
-spec least_loaded(edges()) -> {ok, edge(), edges()} | full.
least_loaded(Edges = #edges{out = Out, last = Last}) ->
    Best = maps:fold(
        fun(Edge, {_Receiver, Credit}, Acc) -> max({Credit, Edge > Last, -Edge}, Acc) end,
        none,
        Out
    ),
    case Best of
        {0, _, _} -> full;
        {_Credit, _, Negative} -> {ok, -Negative, Edges#edges{last = -Negative}}
    end.

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
