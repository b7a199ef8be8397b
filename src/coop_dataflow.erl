%% Dataflow methods at work on a VM: which of its downstream edges a node's
%% result takes. What each method promises is in doc/dataflow.md.
-module(coop_dataflow).

-export([new/2]).
-export([route/2]).
-export([check/2]).
-export_type([method/0]).

%% What of a result decides: all of it, an element of a tuple, the value of a
%% key of a map, or what a fun makes of it, which on a C-node is a task of the
%% node's own plugin.
-type part() ::
    all | {element, pos_integer()} | {key, term()} | fun((term()) -> term()) | Task :: atom().
-type method() ::
    broadcast
    | round_robin
    | random
    | shuffle
    | least_loaded
    | {select, part()}
    | {hash, part()}
    | consume
    | {consume, {Initial :: pos_integer(), non_neg_integer(), Replenish :: pos_integer()}}.
-type edge() :: coop_edges:edge().
-opaque dataflow() ::
    {broadcast, [edge()]}
    | {round_robin, Next :: pos_integer(), tuple()}
    | {random, tuple()}
    | {shuffle, LeftOfRound :: [edge()], [edge()]}
    | least_loaded
    | {select, part(), #{coop_flow:name() => edge()}}
    | {hash, part(), [{Seed :: non_neg_integer(), edge()}]}.
-export_type([dataflow/0]).

-spec new(method(), [{edge(), coop_flow:name()}, ...]) -> dataflow().
new(broadcast, Named) ->
    {broadcast, edges(Named)};
new(round_robin, Named) ->
    {round_robin, 1, list_to_tuple(edges(Named))};
new(random, Named) ->
    {random, list_to_tuple(edges(Named))};
new(shuffle, Named) ->
    {shuffle, [], edges(Named)};
new({consume, _Slab}, Named) ->
    {broadcast, edges(Named)};
new(least_loaded, _Named) ->
    least_loaded;
new({select, Part}, Named) ->
    {select, Part, maps:from_list([{Name, Edge} || {Edge, Name} <- Named])};
new({hash, Part}, Named) ->
    {hash, Part, [{erlang:phash2(Name), Edge} || {Edge, Name} <- Named]}.

edges(Named) -> [Edge || {Edge, _Name} <- Named].

%% @doc The edges for one result; `any' is the least loaded one at the time it is
%% sent. A result that its method cannot place is an error of the task.
-spec route(term(), dataflow()) -> {[edge() | any], dataflow()}.
route(_Result, Dataflow = {broadcast, Edges}) ->
    {Edges, Dataflow};
route(_Result, {round_robin, Next, Edges}) ->
    {[element(Next, Edges)], {round_robin, Next rem tuple_size(Edges) + 1, Edges}};
route(_Result, Dataflow = {random, Edges}) ->
    {[element(rand:uniform(tuple_size(Edges)), Edges)], Dataflow};
route(_Result, {shuffle, [Edge | Left], Edges}) ->
    {[Edge], {shuffle, Left, Edges}};
route(Result, {shuffle, [], Edges}) ->
    route(Result, {shuffle, shuffled(Edges), Edges});
route(_Result, least_loaded) ->
    {[any], least_loaded};
route(Result, Dataflow = {select, Part, Named}) ->
    {selected(part(Part, Result), Named), Dataflow};
route(Result, Dataflow = {hash, Part, Workers}) ->
    {[best(erlang:phash2(part(Part, Result)), Workers, {-1, none})], Dataflow}.

shuffled(Edges) ->
    [Edge || {_, Edge} <- lists:sort([{rand:uniform(), Edge} || Edge <- Edges])].

selected(Names, Named) when is_list(Names) ->
    [edge_to(Name, Named) || Name <- Names];
selected(Name, Named) ->
    [edge_to(Name, Named)].

edge_to(Name, Named) ->
    case Named of
        #{Name := Edge} -> Edge;
        #{} -> error({bad_select, Name})
    end.

%% The highest of what key and worker give together (rendezvous hashing): a
%% worker that comes draws its share of keys and moves no other, and only the
%% keys of one that goes are drawn anew, whatever the order of the workers.
best(_Key, [], {_Highest, Edge}) ->
    Edge;
best(Key, [{Seed, Edge} | Rest], Best = {Highest, _}) ->
    case mix(Key bxor Seed) of
        Score when Score > Highest -> best(Key, Rest, {Score, Edge});
        _ -> best(Key, Rest, Best)
    end.

%% Every bit of the result depends on every bit of the number, which has 27, as
%% phash2 makes them. No product is too large for a word, which makes this four
%% times as fast as phash2 itself.
mix(N) -> fold(fold(N * 16#9E3779B1) * 16#85EBCA6B).

fold(Product) -> (Product bxor (Product bsr 29)) band 16#7FFFFFF.

part(all, Result) ->
    Result;
part({element, N}, Result) when is_tuple(Result), N =< tuple_size(Result) ->
    element(N, Result);
part({key, Key}, Result) when is_map_key(Key, Result) ->
    map_get(Key, Result);
part(Fun, Result) when is_function(Fun, 1) ->
    Fun(Result);
part(Part, Result) ->
    error({no_part, Part, Result}).

%% @doc Whether a node of that home can use the method. A task to go by is looked
%% for by the C-node.
-spec check(native | vm, term()) ->
    ok | {error, {bad_dataflow, term()} | {native_needs, term()}}.
check(_Home, Method) when
    Method =:= broadcast;
    Method =:= round_robin;
    Method =:= random;
    Method =:= shuffle;
    Method =:= least_loaded
->
    ok;
check(_Home, {consume, {Initial, Threshold, Replenish}}) when
    is_integer(Initial),
    Initial > 0,
    is_integer(Threshold),
    Threshold >= 0,
    is_integer(Replenish),
    Replenish > 0,
    Initial < 1 bsl 31,
    Threshold < 1 bsl 31,
    Replenish < 1 bsl 31
->
    ok;
check(Home, {How, Part} = Method) when How =:= select; How =:= hash ->
    case check_part(Home, Part) of
        ok -> ok;
        bad -> {error, {bad_dataflow, Method}};
        needs -> {error, {native_needs, {How, [all, element, key, task]}}}
    end;
check(_Home, Method) ->
    {error, {bad_dataflow, Method}}.

check_part(_Home, all) -> ok;
check_part(_Home, {element, N}) when is_integer(N), N > 0 -> ok;
check_part(_Home, {key, _Key}) -> ok;
check_part(vm, Fun) when is_function(Fun, 1) -> ok;
check_part(native, Task) when is_atom(Task) -> ok;
check_part(native, Fun) when is_function(Fun) -> needs;
check_part(_Home, _Part) -> bad.
