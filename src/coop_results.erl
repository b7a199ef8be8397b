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
-export([mark/3]).
-export([put/4]).
-export([grant/2]).
-export([pause/1]).
-export([may_pause/1]).
-export([is_empty/1]).
-export([left/1]).
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
    %% newest first, each with how many data are done with once it has gone, and its
    %% token; where they go is known
    ready = [] :: [{Done :: non_neg_integer(), coop_process:env(), term()}],
    size = 0 :: non_neg_integer(),
    to :: undefined | to(),
    %% of those that are ready, what the head has been told of
    announced = 0 :: non_neg_integer(),
    %% where to note what goes, and how many data are done with then
    ledger :: undefined | coop_ledger:ledger(),
    done = 0 :: non_neg_integer()
}).
-opaque results() :: #results{}.

-spec new(pid() | undefined, tag(), batch()) -> results().
new(Head, Tag, Batch) ->
    #results{head = Head, tag = Tag, batch = Batch}.

-spec set_sink(sink(), results()) -> results().
set_sink(Sink, R) ->
    R#results{sink = Sink}.

%% @doc How many data are done with when what comes next has gone.
-spec mark(coop_ledger:ledger(), non_neg_integer(), results()) -> results().
mark(Ledger, Done, R) ->
    R#results{ledger = Ledger, done = Done}.

%% So many results in one message. The put and the send next to each other: see
%% coop_ledger.
send(To, Message, Env, _N, #results{ledger = undefined}) ->
    coop_token:send(To, Message, Env);
send(To, Message, Env, N, #results{ledger = Ledger, done = Done}) ->
    {Ref, Slot, Word} = coop_ledger:entry(0, N, Done, Ledger),
    coop_token:resume(Env),
    atomics:put(Ref, Slot, Word),
    To ! Message,
    _ = coop_token:leave(),
    ok.

%% @doc One result, its credit taken; `lost' if the co-op that it is for is gone.
-spec put(coop_process:env(), term(), coop_edges:edges(), results()) ->
    {To :: none | to(), coop_edges:edges(), results()} | {blocked, results()} | lost.
put(_Env, _Value, Edges, R = #results{sink = none}) ->
    {none, Edges, R};
put(Env, Value, Edges, R = #results{sink = {send, To}}) ->
    {To, Edges, out(To, Env, Value, R)};
put(Env, Value, Edges, R = #results{sink = {demand, To}, size = Size}) ->
    case Size < most(R) of
        true -> {To, Edges, announce(most(R), add(To, Env, Value, R))};
        false -> {blocked, R}
    end;
put(Env, Value, Edges, R = #results{sink = Sink}) ->
    case {coop_edges:take(0, Edges), Sink} of
        {full, _} ->
            {blocked, R};
        {none, _} ->
            lost;
        {{ok, Head, Edges2}, {edge, HeadEdge}} when R#results.batch =:= none ->
            Bare = coop_token:bare(Env),
            send(Head, {'$coop', data, HeadEdge, 1, Bare, tagged(Value, R)}, Env, 1, R),
            {Head, Edges2, R};
        {{ok, Head, Edges2}, {edge, _HeadEdge}} ->
            {Head, Edges2, out(Head, Env, Value, R)};
        {{ok, Meter, Edges2}, {metered, To, Half}} ->
            R2 = out(To, Env, Value, R),
            coop_edges:credit(0, Edges2) rem Half =:= 0 andalso
                coop_receiver:ask(To, Meter, Half, max(1, Half div most(R))),
            {To, Edges2, R2}
    end.

most(#results{batch = none}) -> 1;
most(#results{batch = N}) -> N.

out(To, Env, Value, R = #results{batch = none}) ->
    send(To, tagged(Value, R), Env, 1, R),
    R;
%% A message has but one token.
out(To, Env, Value, R = #results{batch = N, ready = Ready}) ->
    R2 =
        case {Ready, coop_token:only(Env)} of
            {[{_, Token, _} | _], Other} when Token =/= Other -> send_ready(R);
            _ -> R
        end,
    case add(To, Env, Value, R2) of
        #results{size = N} = Full -> send_ready(Full);
        More -> More
    end.

add(To, Env, Value, R = #results{ready = Ready, size = Size, done = Done}) ->
    Result = {Done, coop_token:only(Env), Value},
    R#results{ready = [Result | Ready], size = Size + 1, to = To}.

send_ready(R = #results{size = 0}) ->
    R;
send_ready(R = #results{ready = [{_, Env, _} | _] = Ready, size = Size, to = To, sink = Sink}) ->
    Message = batch(Ready, R),
    case Sink of
        {edge, HeadEdge} -> send(To, {'$coop', data, HeadEdge, Size, [], Message}, Env, Size, R);
        _ -> send(To, Message, Env, Size, R)
    end,
    R#results{ready = [], size = 0}.

batch(Ready, R = #results{head = Head}) ->
    tagged({coop_batch, Head, lists:reverse([Value || {_Done, _Env, Value} <- Ready])}, R).

%% @doc The demand for so many of those that were announced.
-spec grant(non_neg_integer(), results()) -> results().
grant(N, R = #results{sink = {demand, To}, ready = Ready, size = Size, announced = Announced}) when
    N =< Announced
->
    {Stay, Go} = lists:split(Size - N, Ready),
    send_demanded(To, Go, Stay =:= [], R),
    R#results{ready = Stay, size = Size - N, announced = Announced - N};
grant(_N, R) ->
    R.

%% With the last that is ready all data are done with that gave none.
send_demanded(_To, [], _IsAll, _R) ->
    ok;
send_demanded(To, [{Done, Env, Value} | Older], IsAll, R = #results{batch = none}) ->
    send_demanded(To, Older, false, R),
    send(To, tagged(Value, R), Env, 1, with_done(Done, IsAll, R));
send_demanded(To, [{Done, Env, _} | _] = Go, IsAll, R) ->
    {Last, Older} = lists:splitwith(fun({_, Each, _}) -> Each =:= Env end, Go),
    send_demanded(To, Older, false, R),
    send(To, batch(Last, R), Env, length(Last), with_done(Done, IsAll, R)).

with_done(_Done, true, R) -> R;
with_done(Done, false, R) -> R#results{done = Done}.

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

%% @doc Those that are ready, and what is without them.
-spec left(results()) -> {[term()], results()}.
left(R = #results{ready = Ready}) ->
    {lists:reverse([Value || {_Done, _Env, Value} <- Ready]), R#results{
        ready = [], size = 0, announced = 0
    }}.

%% @doc A message as the receiver gets it.
-spec tagged(term(), results()) -> term().
tagged(Value, #results{tag = none}) -> Value;
tagged(Value, #results{tag = {tag, Tag}}) -> {Tag, Value}.
