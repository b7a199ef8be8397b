%% A model of co-ops of any shape. Each node keeps a log of what it took, so that
%% after a run all that was free to differ is known: the order in which data of
%% several edges came together, and the choices of the dataflow methods. All else
%% follows, one node after the other, and check/4 says what does not:
%%
%% - each node gave what its task gives for what it took, in that order;
%% - each result is, once and in order, where its dataflow method may send it;
%% - no datum passed a barrier, and no barrier a datum.
%%
%% Of several instances of a graph each is one, and what was relayed is the result of
%% a node ahead of them whose method is that of the co-op.
-module(coop_model).

-export([template/1]).
-export([load/1]).
-export([log/1]).
-export([check/5]).
%% the task, and its native twin in plugins/model.cpp
-export([init/1]).
-export([step/2]).
-export([flush/1]).
-export_type([graph/0, vertex/0]).

-type name() :: atom().
-type kind() :: one | even | two | none | to.
-type vertex() :: {
    name(), Home :: vm | native, kind(), EmitsAtFlush :: boolean(), Method :: term()
}.
%% `{hash, by_thirds}' and `{select, by_names}' are a fun or a native task. A node by
%% `{consume, WorkersHome}' has its results passed on, to all of its targets, by a
%% worker each; there it can name none of them.
-type graph() :: {[vertex()], [{name(), name()}]}.
%% Which stretch between two flushes it belongs to, what it is about, which node
%% made it and as which of its results, and where to if that is asked for.
-type datum() :: {Stretch :: pos_integer(), Key :: non_neg_integer(), name(), Seq :: pos_integer(),
    name() | [name()]}.

-record(node, {
    name :: name(),
    kind :: kind(),
    emits :: boolean(),
    targets :: [name()],
    log = [] :: [datum() | flush],
    stretch = 1 :: pos_integer(),
    since = 0 :: non_neg_integer(),
    seq = 0 :: non_neg_integer()
}).

%%% The co-op

-spec template(graph()) -> coop_flow:template().
template({Vertices, Edges}) ->
    Passed = [{Name, Home} || {Name, _, _, _, {consume, Home}} <- Vertices],
    coop_flow:graph(
        [node_spec(Vertex, Edges) || Vertex <- Vertices] ++
            [worker_spec(worker(Name), Home) || {Name, Home} <- Passed],
        [{Name, worker(Name)} || {Name, _} <- Passed] ++
            [
                {
                    case lists:keymember(From, 1, Passed) of
                        true -> worker(From);
                        false -> From
                    end,
                    To
                }
             || {From, To} <- Edges
            ]
    ).

worker(Name) -> list_to_atom(atom_to_list(Name) ++ "_worker").

worker_spec(Name, vm) -> coop:task(Name, fun(S, D) -> {S, D} end, #{});
worker_spec(Name, native) -> coop:native(Name, routes, same, #{}).

node_spec({Name, vm, _, _, Method} = Vertex, Edges) ->
    coop:task(Name, {?MODULE, step}, #{
        init => {?MODULE, init, [args(Vertex, Edges)]},
        flush => fun ?MODULE:flush/1,
        dataflow => method(vm, Method)
    });
node_spec({Name, native, _, _, Method} = Vertex, Edges) ->
    coop:native(Name, model, step, #{
        args => args(Vertex, Edges), dataflow => method(native, Method)
    }).

method(vm, {hash, by_thirds}) -> {hash, fun(Datum) -> element(2, Datum) div 3 end};
method(vm, {select, by_names}) -> {select, fun(Datum) -> element(5, Datum) end};
method(_Home, {consume, _}) -> {consume, {2, 1, 2}};
method(_Home, Method) -> Method.

args({Name, Home, to, Emits, {consume, _} = Method}, Edges) ->
    args({Name, Home, one, Emits, Method}, Edges);
args({Name, _, Kind, Emits, _}, Edges) ->
    {Name, Kind, Emits, targets(Name, Edges)}.

targets(Name, Edges) -> [To || {From, To} <- Edges, From =:= Name].
sources(Name, Edges) -> [From || {From, To} <- Edges, To =:= Name].

%% How many data all nodes together take for one that is relayed, at most.
-spec load(graph()) -> pos_integer().
load({Vertices, Edges}) ->
    Taken = lists:foldl(
        fun({Name, _, Kind, _, _}, Acc) ->
            In =
                case sources(Name, Edges) of
                    [] -> 1;
                    Sources -> lists:sum([maps:get({out, From}, Acc) || From <- Sources])
                end,
            %% `select' may name one node twice
            Out = In * 2 * case Kind of two -> 2; _ -> 1 end,
            Acc#{Name => In, {out, Name} => Out}
        end,
        #{},
        Vertices
    ),
    lists:sum([maps:get(Name, Taken) || {Name, _, _, _, _} <- Vertices]).

%%% The task

-spec init(tuple()) -> #node{}.
init({Name, Kind, Emits, Targets}) ->
    #node{name = Name, kind = Kind, emits = Emits, targets = Targets}.

-spec step(#node{}, datum()) -> coop_flow:return().
step(Node = #node{kind = Kind, log = Log, since = Since}, {Stretch, Key, _, _, _} = Datum) ->
    results(Kind, Key, Stretch, Node#node{log = [Datum | Log], since = Since + 1}).

results(even, Key, _, Node) when Key rem 2 =:= 1 ->
    {Node};
results(none, _, _, Node) ->
    {Node};
results(two, Key, Stretch, Node) ->
    {First, Node2} = result(Key, Stretch, Node),
    {Second, Node3} = result(Key + 1, Stretch, Node2),
    {Node3, many, [First, Second]};
results(to, Key, Stretch, Node = #node{targets = [_ | _] = Targets}) ->
    {Result, Node2} = result(Key, Stretch, Node),
    {Node2, to, [{nth(Key, Targets), Result}]};
results(_, Key, Stretch, Node) ->
    {Result, Node2} = result(Key, Stretch, Node),
    {Node2, Result}.

result(Key, Stretch, Node = #node{name = Name, targets = Targets, seq = Seq}) ->
    {{Stretch, Key, Name, Seq + 1, names(Key, Targets)}, Node#node{seq = Seq + 1}}.

names(_Key, []) -> [];
names(Key, Targets) ->
    case Key rem 4 of
        0 -> [];
        1 -> nth(Key, Targets);
        2 -> [nth(Key, Targets)];
        3 -> Targets ++ [nth(Key, Targets)]
    end.

nth(Key, Targets) -> lists:nth(Key rem length(Targets) + 1, Targets).

%% How many data came since the flush before.
-spec flush(#node{}) -> coop_flow:return().
flush(Node = #node{log = Log, stretch = Stretch, since = Since, emits = Emits}) ->
    Next = Node#node{log = [flush | Log], stretch = Stretch + 1, since = 0},
    case Emits of
        false ->
            {Next};
        true ->
            {Result, Next2} = result(Since, Stretch, Next),
            {Next2, Result}
    end.

%% Of a node's state, native or not.
-spec log(term()) -> [datum() | flush].
log(#node{log = Log}) -> lists:reverse(Log);
log(Log) when is_list(Log) -> Log.

%%% The model

%% The method by which data are dealt out; what was relayed, stretch by stretch; the
%% nodes' logs, by instance; and for each flush that was waited for, its number and
%% what the receiver had by then and not before.
-spec check(
    graph(),
    Method :: term(),
    [[datum()]],
    [#{name() => [datum() | flush]}],
    [{pos_integer(), [datum()]}]
) ->
    ok | {violated, term()}.
check(Graph = {Vertices, Edges}, Method, Stretches, Instances, Got) ->
    try
        [{Entry, _, _, _, _} | _] = [V || V <- Vertices, sources(element(1, V), Edges) =:= []],
        Dealt = [
            {I, taken(relay, maps:get(Entry, Logs))}
         || {I, Logs} <- lists:zip(lists:seq(1, length(Instances)), Instances)
        ],
        is_dealt_out(head, Method, [{method, D} || D <- lists:append(Stretches)], Dealt),
        Flushes = length(Stretches),
        Left = [
            instance(Graph, Relayed, Flushes, Logs)
         || {{_, Relayed}, Logs} <- lists:zip(Dealt, Instances)
        ],
        have_left(Left, Got)
    catch
        throw:{?MODULE, What} -> {violated, What}
    end.

%% What each node of the last tier gave.
instance({Vertices, Edges}, Relayed, Flushes, Logs) ->
    Given = maps:from_list([
        {Name, given(args(Vertex, Edges), maps:get(Name, Logs))}
     || {Name, _, _, _, _} = Vertex <- Vertices
    ]),
    [
        begin
            is_stretch_by_stretch(Name, maps:get(Name, Logs), Flushes),
            case sources(Name, Edges) of
                [] -> same({relayed_to, Name}, Relayed, taken(relay, maps:get(Name, Logs)));
                _ -> ok
            end,
            Arrived = [{To, taken(Name, maps:get(To, Logs))} || To <- targets(Name, Edges)],
            Arrived =:= [] orelse is_dealt_out(Name, Method, maps:get(Name, Given), Arrived)
        end
     || {Name, _, _, _, Method} <- Vertices
    ],
    [
        {Name, Method, [R || {_, R} <- maps:get(Name, Given)]}
     || {Name, _, _, _, Method} <- Vertices, targets(Name, Edges) =:= []
    ].

same(_What, Same, Same) -> ok;
same(What, Expected, Found) -> throw({?MODULE, {What, {expected, Expected}, {found, Found}}}).

taken(From, Log) -> [D || {_, _, F, _, _} = D <- Log, F =:= From].

%% The results of a node that took this, one after the other, each with the way
%% it goes.
given(Args, Log) ->
    {Results, _} = lists:mapfoldl(fun one/2, init(Args), Log),
    lists:append(Results).

one(flush, Node) -> ways(flush(Node));
one(Datum, Node) -> ways(step(Node, Datum)).

ways({Node}) -> {[], Node};
ways({Node, Result}) -> {[{method, Result}], Node};
ways({Node, many, Results}) -> {[{method, Result} || Result <- Results], Node};
ways({Node, to, Named}) -> {[{{to, To}, Result} || {To, Result} <- Named], Node}.

%% As many barriers as there were flushes, and before each the data of its own
%% stretch.
is_stretch_by_stretch(Name, Log, Flushes) ->
    same({barriers_at, Name}, Flushes + 1, stretch(Name, Log, 1)).

stretch(_Name, [], I) -> I;
stretch(Name, [flush | Log], I) -> stretch(Name, Log, I + 1);
stretch(Name, [{I, _, _, _, _} | Log], I) -> stretch(Name, Log, I);
stretch(Name, [Datum | _], I) -> throw({?MODULE, {Name, took, Datum, in_stretch, I}}).

%% On each edge what was sent to it by name and what its method gave it, in the
%% order in which they were made.
is_dealt_out(Name, Method, Given, Arrived) ->
    ByMethod = [Result || {method, Result} <- Given],
    Chosen = choice(Name, Method, ByMethod, Arrived),
    [
        begin
            Expected = lists:append([
                case Way of
                    {to, To} -> [Result];
                    {to, _} -> [];
                    method -> lists:duplicate(times(To, Result, Chosen), Result)
                end
             || {Way, Result} <- Given
            ]),
            same({edge, Name, To, Method}, ordered(Method, Expected), ordered(Method, Data))
        end
     || {To, Data} <- Arrived
    ].

%% Workers have no order among them.
ordered({consume, _}, Data) -> lists:sort(Data);
ordered(_Method, Data) -> Data.

times(To, Result, Chosen) ->
    length([T || T <- maps:get(Result, Chosen), T =:= To]).

%% Where each of the results went, or should have; what is up to the method
%% itself is taken from what arrived, and is held to what the method promises.
choice(_Name, broadcast, Results, Arrived) ->
    maps:from_list([{R, targets_of(Arrived)} || R <- Results]);
choice(Name, {consume, _}, Results, Arrived) ->
    choice(Name, broadcast, Results, Arrived);
choice(_Name, {select, _}, Results, _Arrived) ->
    maps:from_list([{R, as_list(Names)} || {_, _, _, _, Names} = R <- Results]);
choice(_Name, round_robin, Results, Arrived) ->
    Targets = targets_of(Arrived),
    maps:from_list([
        {R, [lists:nth((I - 1) rem length(Targets) + 1, Targets)]}
     || {I, R} <- lists:zip(lists:seq(1, length(Results)), Results)
    ]);
choice(Name, Method, Results, Arrived) ->
    Where = lists:foldl(
        fun({To, R}, Acc) -> Acc#{R => [To | maps:get(R, Acc, [])]} end,
        #{},
        [{To, R} || {To, Data} <- Arrived, R <- Data]
    ),
    Went = [{R, maps:get(R, Where, [])} || R <- Results],
    [same({one_edge_for, Name, Method, R}, 1, length(To)) || {R, To} <- Went],
    keeps(Name, Method, [{R, To} || {R, [To]} <- Went], targets_of(Arrived)),
    maps:from_list(Went).

targets_of(Arrived) -> [To || {To, _} <- Arrived].

as_list(Names) when is_list(Names) -> Names;
as_list(Name) -> [Name].

keeps(_Name, Any, _Went, _Targets) when Any =:= random; Any =:= least_loaded ->
    ok;
keeps(Name, shuffle, Went, Targets) ->
    N = length(Targets),
    case length(Went) =< N of
        true ->
            To = [T || {_, T} <- Went],
            same({round, Name}, lists:sort(To), lists:usort(To));
        false ->
            {Round, Rest} = lists:split(N, Went),
            keeps(Name, shuffle, Round, Targets),
            keeps(Name, shuffle, Rest, Targets)
    end;
keeps(Name, {hash, Part}, Went, _Targets) ->
    Homes = lists:usort([{key(Part, R), To} || {R, To} <- Went]),
    same({keys, Name, Homes}, length(lists:usort([K || {K, _} <- Homes])), length(Homes)).

key(all, Result) -> Result;
key({element, N}, Result) -> element(N, Result);
key(by_thirds, Result) -> element(2, Result) div 3.

%% At each flush that was waited for the receiver had all of its stretch and of
%% those before it, in the order in which each node gave them. (Results do not say
%% which instance they are of, so the order of several is not seen here.)
have_left(Left = [Last | _], Got) ->
    lists:foldl(
        fun({Flush, Data}, From) ->
            [
                left_at(Flush, Name, Method, [
                    [R || {Stretch, _, _, _, _} = R <- Results, Stretch > From, Stretch =< Flush]
                 || Instance <- Left, {Of, _, Results} <- Instance, Of =:= Name
                ], taken(Name, Data))
             || {Name, Method, _} <- Last
            ],
            same({all_from_the_last_tier, Flush}, [], [
                D
             || {_, _, Name, _, _} = D <- Data, not lists:keymember(Name, 1, Last)
            ]),
            Flush
        end,
        0,
        Got
    ),
    ok.

left_at(Flush, Name, Method, [Expected], Found) ->
    same({left, Name, at_flush, Flush}, ordered(Method, Expected), ordered(Method, Found));
left_at(Flush, Name, _Method, Several, Found) ->
    same({left, Name, at_flush, Flush}, lists:sort(lists:append(Several)), lists:sort(Found)).
