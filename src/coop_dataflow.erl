%% Dataflow methods at work on a VM: which of its downstream edges a node's
%% result takes, or a head's datum. What each method promises is in
%% doc/dataflow.md.
-module(coop_dataflow).

-export([new/2]).
-export([route/2]).
-export([check/2]).
-export([check_head/2]).
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
%% What is chosen as one: the edge to a node, or a head's edges to all entry nodes
%% of an instance.
-type way() :: [coop_edges:edge(), ...].
-opaque dataflow() ::
    {broadcast, [coop_edges:edge()]}
    | {round_robin, Next :: pos_integer(), tuple()}
    | {random, tuple()}
    | {shuffle, LeftOfRound :: [way()], [way()]}
    | {least_loaded, [way()]}
    | {select, part(), #{coop_flow:name() => way()}}
    | {hash, part(), [{Seed :: non_neg_integer(), way()}]}.
-export_type([dataflow/0, way/0]).

%% @doc Names are for `select', and for `hash' to tell the ways apart.
-spec new(method(), [{way(), Name :: term()}, ...]) -> dataflow().
new(broadcast, Named) ->
    {broadcast, lists:append(ways(Named))};
new(round_robin, Named) ->
    {round_robin, 1, list_to_tuple(ways(Named))};
new(random, Named) ->
    {random, list_to_tuple(ways(Named))};
new(shuffle, Named) ->
    {shuffle, [], ways(Named)};
new({consume, _Slab}, Named) ->
    new(broadcast, Named);
new(least_loaded, Named) ->
    {least_loaded, ways(Named)};
new({select, Part}, Named) ->
    {select, Part, maps:from_list([{Name, Way} || {Way, Name} <- Named])};
new({hash, Part}, Named) ->
    {hash, Part, [{erlang:phash2(Name), Way} || {Way, Name} <- Named]}.

ways(Named) -> [Way || {Way, _Name} <- Named].

%% @doc The edges for one result; `any' stands for those of the way that is the
%% least loaded at the time it is sent. A result that its method cannot place is
%% an error.
-spec route(term(), dataflow()) -> {[coop_edges:edge() | {any, [way()]}], dataflow()}.
route(_Result, Dataflow = {broadcast, Edges}) ->
    {Edges, Dataflow};
route(_Result, {round_robin, Next, Ways}) ->
    {element(Next, Ways), {round_robin, Next rem tuple_size(Ways) + 1, Ways}};
route(_Result, Dataflow = {random, Ways}) ->
    {element(rand:uniform(tuple_size(Ways)), Ways), Dataflow};
route(_Result, {shuffle, [Way | Left], Ways}) ->
    {Way, {shuffle, Left, Ways}};
route(Result, {shuffle, [], Ways}) ->
    route(Result, {shuffle, shuffled(Ways), Ways});
route(_Result, Dataflow = {least_loaded, Ways}) ->
    {[{any, Ways}], Dataflow};
route(Result, Dataflow = {select, Part, Named}) ->
    {selected(part(Part, Result), Named), Dataflow};
route(Result, Dataflow = {hash, Part, Workers}) ->
    {best(erlang:phash2(part(Part, Result)), Workers, {-1, none}), Dataflow}.

shuffled(Ways) ->
    [Way || {_, Way} <- lists:sort([{rand:uniform(), Way} || Way <- Ways])].

selected(Names, Named) when is_list(Names) ->
    lists:append([way_to(Name, Named) || Name <- Names]);
selected(Name, Named) ->
    way_to(Name, Named).

way_to(Name, Named) ->
    case Named of
        #{Name := Way} -> Way;
        #{} -> error({bad_select, Name})
    end.

%% The highest of what key and worker give together (rendezvous hashing): a
%% worker that comes draws its share of keys and moves no other, and only the
%% keys of one that goes are drawn anew, whatever the order of the workers.
best(_Key, [], {_Highest, Way}) ->
    Way;
best(Key, [{Seed, Way} | Rest], Best = {Highest, _}) ->
    case mix(Key bxor Seed) of
        Score when Score > Highest -> best(Key, Rest, {Score, Way});
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

%% @doc Whether a head there can: instances have no names to be selected by, and a
%% head has no plugin with tasks.
-spec check_head(native | vm, term()) ->
    ok | {error, {bad_dataflow, term()} | {native_needs, term()}}.
check_head(_Home, {How, _} = Method) when How =:= select; How =:= consume ->
    {error, {bad_dataflow, Method}};
check_head(native, {hash, Fun}) when is_function(Fun) ->
    {error, {native_needs, {hash, [all, element, key]}}};
check_head(_Home, Method) ->
    check(vm, Method).

check_part(_Home, all) -> ok;
check_part(_Home, {element, N}) when is_integer(N), N > 0 -> ok;
check_part(_Home, {key, _Key}) -> ok;
check_part(vm, Fun) when is_function(Fun, 1) -> ok;
check_part(native, Task) when is_atom(Task) -> ok;
check_part(native, Fun) when is_function(Fun) -> needs;
check_part(_Home, _Part) -> bad.
