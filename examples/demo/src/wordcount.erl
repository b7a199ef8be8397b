%% A co-op that counts words, under an ordinary supervisor. Four of its nodes
%% are C++, in the C-node; the last is Erlang, on this VM.
%%
%%                          +--> count_1 --+
%%                          +--> count_2 --+
%%   text --> split --hash--|              |--> merge --> receiver
%%                          +--> count_3 --+
%%                          +--> count_4 --+
%%
%% Data are chunks of text. Nothing comes out before the barrier: coop:flush/2
%% makes each node give its totals, upstream nodes first.
-module(wordcount).

-behaviour(supervisor).

-export([start_link/1]).
-export([init/1]).
-export([template/0]).
-export([merge/2]).
-export([lines/1]).

%% Lines in one message to the receiver.
-define(LINES, 1_000).

%% @doc The supervisor. The C-node comes first: if it is lost for good, the
%% co-op after it is restarted with it.
-spec start_link(Receiver :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Receiver) ->
    supervisor:start_link({local, wordcount_sup}, ?MODULE, Receiver).

-spec init(atom()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Receiver) ->
    CNode = esp_node:child_spec(#{}),
    Coop = coop:child_spec(#{
        id => wordcount,
        template => template(),
        name => wordcount,
        receiver => Receiver,
        tag => lines
    }),
    {ok, {#{strategy => rest_for_one, intensity => 3, period => 10}, [CNode, Coop]}}.

-spec template() -> coop_flow:template().
template() ->
    Plugin = {demo, wordcount},
    Split = coop:native(split, Plugin, split, #{dataflow => {hash, all}}),
    Counts = [
        coop:native(Name, Plugin, count, #{})
     || Name <- [count_1, count_2, count_3, count_4]
    ],
    Merge = coop:task(merge, {?MODULE, merge}, #{
        init => fun() -> [] end, flush => fun ?MODULE:lines/1
    }),
    coop_flow:fanout(Split, Counts, Merge).

%% @doc The task of the Erlang node: keeps the totals that the counters give ...
-spec merge([[{binary(), pos_integer()}]], [{binary(), pos_integer()}]) ->
    {[[{binary(), pos_integer()}]]}.
merge(Batches, Batch) ->
    {[Batch | Batches]}.

%% @doc ... and makes of them what `uniq -c' prints, once all have come. Each
%% word was counted by one counter alone, and binaries sort as LC_ALL=C does.
-spec lines([[{binary(), pos_integer()}]]) -> {[], many, [binary()]}.
lines(Batches) ->
    {[], many, parts(lists:sort(lists:append(Batches)))}.

parts([]) ->
    [];
parts(Totals) ->
    {Part, Rest} = take(?LINES, Totals, []),
    [iolist_to_binary(Part) | parts(Rest)].

take(N, [{Word, Count} | Rest], Lines) when N > 0 ->
    take(N - 1, Rest, [[pad(integer_to_binary(Count)), Word, $\n] | Lines]);
take(_N, Rest, Lines) ->
    {lists:reverse(Lines), Rest}.

pad(Digits) when byte_size(Digits) < 7 -> [binary:copy(<<" ">>, 7 - byte_size(Digits)), Digits, $\s];
pad(Digits) -> [Digits, $\s].
