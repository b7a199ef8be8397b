%% What leaves a co-op by a node of its last tier: one by one or in batches, by
%% the credit of edge 0, by demand, or freely.
%%
%% A batch goes out when it is full, when the node has nothing more to do, when
%% it must wait for credit, and before the mark of a flush. By demand, as many
%% results as a batch has wait here; the head hears how many they are, and grants
%% no more than that.
-module(coop_results).

-export([new/3]).
-export([set_sink/2]).
-export([mark/2]).
-export([put/4]).
-export([grant/2]).
-export([pause/1]).
-export([may_pause/1]).
-export([is_empty/1]).
-export([tagged/2]).
-export_type([sink/0, tag/0, batch/0, results/0]).

%% Where they go. `edge': along out edge 0, whose messages name `HeadEdge';
%% `metered': plain, but by the credit of edge 0, which comes by halves of a
%% window.
-type sink() ::
    none
    | {send, to()}
    | {metered, to(), Half :: pos_integer()}
    | {edge, HeadEdge :: coop_edges:edge()}
    | {demand, pid()}.
-type to() :: pid() | {atom(), node()}.
-type tag() :: none | {tag, term()}.
-type batch() :: none | pos_integer().
-record(results, {
    head :: pid() | undefined,
    tag :: tag(),
    batch :: batch(),
    sink = none :: sink(),
    %% newest first; where they go is known
    ready = [] :: [term()],
    size = 0 :: non_neg_integer(),
    to :: undefined | to(),
    %% of those that are ready, what the head has been told of
    announced = 0 :: non_neg_integer(),
    %% what to note where with the next send
    mark :: undefined | {atomics:atomics_ref(), pos_integer(), non_neg_integer()}
}).
-opaque results() :: #results{}.

-spec new(pid() | undefined, tag(), batch()) -> results().
new(Head, Tag, Batch) ->
    #results{head = Head, tag = Tag, batch = Batch}.

-spec set_sink(sink(), results()) -> results().
set_sink(Sink, R) ->
    R#results{sink = Sink}.

%% @doc What coop_ledger says of the next send. The credit for it is taken before.
-spec mark({atomics:atomics_ref(), pos_integer(), non_neg_integer()}, results()) -> results().
mark(Mark, R) ->
    R#results{mark = Mark}.

%% The put and the send next to each other: see coop_ledger.
send(To, Message, #results{mark = undefined}) ->
    To ! Message;
send(To, Message, #results{mark = {Ref, Slot, Word}}) ->
    atomics:put(Ref, Slot, Word),
    To ! Message.

%% @doc One result, its credit taken; `lost' if the co-op that it is for is gone.
-spec put(coop_process:env(), term(), coop_edges:edges(), results()) ->
    {To :: none | to(), coop_edges:edges(), results()} | {blocked, results()} | lost.
put(_Env, _Value, Edges, R = #results{sink = none}) ->
    {none, Edges, R};
put(_Env, Value, Edges, R = #results{sink = {send, To}}) ->
    {To, Edges, out(To, Value, R)};
put(_Env, Value, Edges, R = #results{sink = {demand, To}, size = Size}) ->
    case Size < most(R) of
        true -> {To, Edges, announce(most(R), add(To, Value, R))};
        false -> {blocked, R}
    end;
put(Env, Value, Edges, R = #results{sink = Sink}) ->
    case {coop_edges:take(0, Edges), Sink} of
        {full, _} ->
            {blocked, R};
        {none, _} ->
            lost;
        {{ok, Head, Edges2}, {edge, HeadEdge}} when R#results.batch =:= none ->
            send(Head, {'$coop', data, HeadEdge, 1, Env, tagged(Value, R)}, R),
            {Head, Edges2, R};
        {{ok, Head, Edges2}, {edge, _HeadEdge}} ->
            {Head, Edges2, out(Head, Value, R)};
        {{ok, Meter, Edges2}, {metered, To, Half}} ->
            R2 = out(To, Value, R),
            coop_edges:credit(0, Edges2) rem Half =:= 0 andalso
                coop_receiver:ask(To, Meter, Half, max(1, Half div most(R))),
            {To, Edges2, R2}
    end.

most(#results{batch = none}) -> 1;
most(#results{batch = N}) -> N.

out(To, Value, R = #results{batch = none}) ->
    send(To, tagged(Value, R), R),
    R;
out(To, Value, R = #results{batch = N}) ->
    case add(To, Value, R) of
        #results{size = N} = Full -> send_ready(Full);
        More -> More
    end.

add(To, Value, R = #results{ready = Ready, size = Size}) ->
    R#results{ready = [Value | Ready], size = Size + 1, to = To}.

send_ready(R = #results{size = 0}) ->
    R;
send_ready(R = #results{ready = Ready, size = Size, to = To, sink = Sink}) ->
    Message = tagged({coop_batch, R#results.head, lists:reverse(Ready)}, R),
    case Sink of
        {edge, HeadEdge} -> send(To, {'$coop', data, HeadEdge, Size, [], Message}, R);
        _ -> send(To, Message, R)
    end,
    R#results{ready = [], size = 0}.

%% @doc The demand for so many of those that were announced.
-spec grant(non_neg_integer(), results()) -> results().
grant(N, R = #results{sink = {demand, To}, ready = Ready, size = Size, announced = Announced}) when
    N =< Announced
->
    {Stay, Go} = lists:split(Size - N, Ready),
    send_demanded(To, lists:reverse(Go), R),
    R#results{ready = Stay, size = Size - N, announced = Announced - N};
grant(_N, R) ->
    R.

send_demanded(To, Values, R = #results{batch = none}) ->
    lists:foreach(fun(Value) -> To ! tagged(Value, R) end, Values);
send_demanded(_To, [], _R) ->
    ok;
send_demanded(To, Values, R = #results{head = Head}) ->
    To ! tagged({coop_batch, Head, Values}, R),
    ok.

%% From so many on the head is told of those that are ready.
announce(From, R = #results{size = Size, announced = Announced, head = Head}) when
    Size >= From, Size > Announced
->
    Head ! {'$coop', want, self(), 0, Size - Announced},
    R#results{announced = Size};
announce(_From, R) ->
    R.

%% @doc The node is going to wait.
-spec pause(results()) -> results().
pause(R = #results{sink = {demand, _}}) -> announce(1, R);
pause(R) -> send_ready(R).

%% @doc Whether {@link pause/1} would do anything.
-spec may_pause(results()) -> boolean().
may_pause(#results{size = 0}) -> false;
may_pause(#results{sink = {demand, _}, size = Size, announced = Size}) -> false;
may_pause(_) -> true.

-spec is_empty(results()) -> boolean().
is_empty(#results{size = Size}) -> Size =:= 0.

%% @doc A message as the receiver gets it.
-spec tagged(term(), results()) -> term().
tagged(Value, #results{tag = none}) -> Value;
tagged(Value, #results{tag = {tag, Tag}}) -> {Tag, Value}.
