%% When what waits at a head is too much, by the co-op's `overload':
%%
%% - `block': those who relay wait for credit; nothing is ever too much.
%% - `shed': they are refused instead, also while `max_queue' is exceeded.
%% - `drop_oldest': they do not wait: credit goes back as data come in, and of
%%   those that wait the oldest make room.
%% - `{sojourn, Ms}': as `block'; what has waited for longer is dropped when its
%%   turn comes.
%%
%% Only data that came with credit are counted, and of those none that were
%% relayed with high priority.
-module(coop_overload).

-export([new/3]).
-export([policy/1]).
-export([rule/1]).
-export([came/3]).
-export([left/2]).
-export([drops_oldest/1]).
-export([is_too_much/2]).
-export([is_late/2]).
-export([news/2]).
-export([is_over/1]).
-export_type([policy/0, overload/0, mark/0]).

-type policy() :: block | shed | drop_oldest | {sojourn, pos_integer()}.
-record(overload, {
    policy :: shed | drop_oldest | {sojourn, pos_integer()},
    max_data :: pos_integer(),
    max_bytes :: pos_integer(),
    %% that came with credit
    data = 0 :: non_neg_integer(),
    bytes = 0 :: non_neg_integer(),
    is_over = false :: boolean()
}).
%% Most heads, and all nodes, have nothing to look at; who has `block' need not
%% ask.
-type overload() :: block | #overload{}.
%% What is kept of a datum while it waits.
-opaque mark() :: {bytes, non_neg_integer()} | {came, Ms :: integer()}.

-spec new(policy(), pos_integer(), pos_integer()) -> overload().
new(block, _MaxData, _MaxBytes) -> block;
new(Policy, MaxData, MaxBytes) ->
    #overload{policy = Policy, max_data = MaxData, max_bytes = MaxBytes}.

-spec policy(overload()) -> policy().
policy(block) -> block;
policy(#overload{policy = Policy}) -> Policy.

%% @doc What a VM that relays does without credit.
-spec rule(overload()) -> block | shed.
rule(#overload{policy = shed}) -> shed;
rule(_) -> block.

-spec came(Credited :: boolean(), term(), overload()) -> {mark(), overload()}.
came(_Credited, _Datum, O = #overload{policy = {sojourn, _}}) ->
    {{came, now_ms()}, O};
came(false, _Datum, O = #overload{}) ->
    {{bytes, 0}, O};
came(true, Datum, O = #overload{data = Data, bytes = Bytes}) ->
    Size = erlang:external_size(Datum),
    {{bytes, Size}, O#overload{data = Data + 1, bytes = Bytes + Size}}.

-spec left(mark(), overload()) -> overload().
left({bytes, 0}, O) ->
    O;
left({bytes, Size}, O = #overload{data = Data, bytes = Bytes}) ->
    O#overload{data = Data - 1, bytes = Bytes - Size};
left({came, _}, O) ->
    O.

-spec drops_oldest(overload()) -> boolean().
drops_oldest(#overload{policy = drop_oldest}) -> true;
drops_oldest(_) -> false.

-spec is_too_much(non_neg_integer(), overload()) -> boolean().
is_too_much(Queued, O = #overload{max_data = MaxData, data = Data, bytes = Bytes}) ->
    %% one alone is never too much, however large
    Queued > MaxData orelse (Data > 1 andalso Bytes > O#overload.max_bytes).

-spec is_late(mark(), overload()) -> boolean().
is_late({came, At}, #overload{policy = {sojourn, Ms}}) -> now_ms() - At > Ms;
is_late(_Mark, _Overload) -> false.

%% @doc What those who relay are to be told when that has changed. They may relay
%% again when the queue is down to half of what may wait.
-spec news(non_neg_integer(), overload()) -> none | {boolean(), overload()}.
news(Queued, O = #overload{policy = shed, is_over = Was, max_data = MaxData, bytes = Bytes}) ->
    Is =
        case Was of
            true -> Queued > MaxData div 2 orelse Bytes > O#overload.max_bytes div 2;
            false -> is_too_much(Queued, O)
        end,
    case Is of
        Was -> none;
        _ -> {Is, O#overload{is_over = Is}}
    end;
news(_Queued, _Overload) ->
    none.

-spec is_over(overload()) -> boolean().
is_over(#overload{is_over = Is}) -> Is;
is_over(block) -> false.

now_ms() ->
    erlang:monotonic_time(millisecond).
