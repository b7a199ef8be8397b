%% Dataflow methods: which of its downstream edges a node's result takes.
%%
%% - `broadcast': every edge, in the template's order; each receiver sees all
%%   results in the order they were made.
%% - `round_robin': one edge after the other; each gets every n-th result.
%% - `random': one edge, uniformly.
%% - `{hash, What}': results that are equal in `What' always take the same edge,
%%   so one receiver sees all of them in order. `What' is `all', `{element, N}'
%%   of a tuple, `{key, K}' of a map or, for tasks on a VM, a fun.
%%
%% A full edge is waited for by all of them: none picks another receiver for
%% want of credit.
-module(coop_dataflow).

-export([new/2]).
-export([route/2]).
-export([check/2]).
-export_type([method/0]).

-type method() ::
    broadcast
    | round_robin
    | random
    | {hash, all | {element, pos_integer()} | {key, term()} | fun((term()) -> term())}.
-record(dataflow, {method :: method(), edges :: tuple(), next = 1 :: pos_integer()}).
-opaque dataflow() :: #dataflow{}.
-export_type([dataflow/0]).

-spec new(method(), [coop_edges:edge()]) -> dataflow().
new(Method, Edges) ->
    #dataflow{method = Method, edges = list_to_tuple(Edges)}.

%% @doc The edges for one result; a result that `hash' cannot look into is an
%% error of the task that made it.
-spec route(term(), dataflow()) -> {[coop_edges:edge()], dataflow()}.
route(_Result, Dataflow = #dataflow{edges = {Edge}}) ->
    {[Edge], Dataflow};
route(_Result, Dataflow = #dataflow{method = broadcast, edges = Edges}) ->
    {tuple_to_list(Edges), Dataflow};
route(_Result, Dataflow = #dataflow{method = round_robin, edges = Edges, next = Next}) ->
    {[element(Next, Edges)], Dataflow#dataflow{next = Next rem tuple_size(Edges) + 1}};
route(_Result, Dataflow = #dataflow{method = random, edges = Edges}) ->
    {[element(rand:uniform(tuple_size(Edges)), Edges)], Dataflow};
route(Result, Dataflow = #dataflow{method = {hash, What}, edges = Edges}) ->
    Hash = erlang:phash2(part(What, Result), tuple_size(Edges)),
    {[element(Hash + 1, Edges)], Dataflow}.

part(all, Result) -> Result;
part({element, N}, Result) -> element(N, Result);
part({key, Key}, Result) -> maps:get(Key, Result);
part(Fun, Result) when is_function(Fun, 1) -> Fun(Result).

%% @doc Whether a node of that home can use the method.
-spec check(native | vm, term()) ->
    ok | {error, {bad_dataflow, term()} | {native_needs, term()}}.
check(_Home, Method) when Method =:= broadcast; Method =:= round_robin; Method =:= random ->
    ok;
check(_Home, {hash, all}) ->
    ok;
check(_Home, {hash, {element, N}}) when is_integer(N), N > 0 ->
    ok;
check(_Home, {hash, {key, _Key}}) ->
    ok;
check(vm, {hash, Fun}) when is_function(Fun, 1) ->
    ok;
check(native, {hash, Fun}) when is_function(Fun) ->
    {error, {native_needs, {hash, [all, element, key]}}};
check(_Home, Method) ->
    {error, {bad_dataflow, Method}}.
