%% @doc Templates of co-ops: which nodes there are, and which feeds which. A
%% template is a plain term; nothing here starts a process.
%%
%% The option `dataflow' of a node is one of `broadcast' (the default),
%% `round_robin', `shuffle', `random', `least_loaded', `{hash, Part}' and
%% `{select, Part}', where `Part' is `all', `{element, N}', `{key, K}', of an
%% Erlang task a fun of the result, of a native one a function of its plugin. What
%% order, balance and waiting each of them promises is in doc/dataflow.md.
-module(coop_flow).

-export([task/3]).
-export([native/4]).
-export([pipeline/1]).
-export([fanout/3]).
-export([graph/2]).
-export([unfold/3]).
-export([nodes/1]).
-export([edges/1]).
-export([to_digraph/1]).
-export([to_dot/1]).

-type name() :: atom().
-type task() :: fun((State :: term(), Data :: term()) -> return()) | {module(), atom()}.
-type return() ::
    {State :: term(), Result :: term()}
    | {State :: term()}
    | {State :: term(), many, [Result :: term()]}
    | {State :: term(), to, [{name(), Result :: term()}]}.
-type task_options() :: #{
    init => fun(() -> State :: term()) | {module(), atom(), [term()]},
    flush => fun((State :: term()) -> return()),
    dataflow => coop_dataflow:method()
}.
-type native_options() :: #{
    args => term(), stack => pos_integer(), dataflow => coop_dataflow:method()
}.
-type plugin() :: atom() | {App :: atom(), atom()} | file:filename().
-opaque node_spec() :: #{name := name(), home := vm | native, options := map(), _ => _}.
-opaque template() :: #{nodes := [node_spec()], edges := [{name(), name()}]}.
-type error() ::
    {error,
        empty
        | {bad_name, term()}
        | {bad_node, term()}
        | {bad_edge, term()}
        | {duplicate_node, name()}
        | {duplicate_edge, {name(), name()}}
        | {unknown_node, name()}
        | {cycle, [name()]}
        | {too_many_nodes, pos_integer()}}.
-export_type([name/0, task/0, return/0, task_options/0, native_options/0, plugin/0]).
-export_type([node_spec/0, template/0, error/0]).

%% @doc A node that runs an Erlang task on the VM. What is wrong with its options
%% is said by {@link coop:start_link/2}.
-spec task(name(), task(), task_options()) -> node_spec().
task(Name, Task, Options) ->
    #{name => Name, home => vm, task => Task, options => Options}.

%% @doc A node that runs a plugin's task on a C-node.
-spec native(name(), plugin(), Task :: atom(), native_options()) -> node_spec().
native(Name, Plugin, Task, Options) ->
    #{name => Name, home => native, plugin => Plugin, task => Task, options => Options}.

%% @doc A chain, first node to last.
-spec pipeline([node_spec()]) -> template() | error().
pipeline([]) ->
    {error, empty};
pipeline(Nodes) ->
    Names = [name(Node) || Node <- Nodes],
    graph(Nodes, lists:zip(lists:droplast(Names), tl(Names))).

%% @doc A router, whose dataflow chooses among the workers, and a node that takes
%% what they give. Without it each worker is of the last tier.
-spec fanout(Router :: node_spec(), Workers :: [node_spec()], FanIn :: node_spec() | none) ->
    template() | error().
fanout(Router, Workers, FanIn) ->
    Names = [name(Worker) || Worker <- Workers],
    Spread = [{name(Router), Name} || Name <- Names],
    case FanIn of
        none ->
            graph([Router | Workers], Spread);
        _ ->
            Gather = [{Name, name(FanIn)} || Name <- Names],
            graph([Router | Workers] ++ [FanIn], Spread ++ Gather)
    end.

%% @doc Any graph without cycles. Nodes that no edge leads to are its entries.
-spec graph([node_spec()], [{name(), name()}]) -> template() | error().
graph([], _Edges) ->
    {error, empty};
graph(Nodes, Edges) ->
    try
        lists:foreach(fun check_node/1, Nodes),
        Names = [name(Node) || Node <- Nodes],
        check_unique(Names, duplicate_node),
        check_edges(Edges, maps:from_keys(Names, known)),
        check_unique(Edges, duplicate_edge),
        check_acyclic(Names, Edges),
        #{nodes => Nodes, edges => Edges}
    catch
        throw:{?MODULE, Reason} -> {error, Reason}
    end.

%% @doc Nodes out of a function, until it says `stop'. Each follows the one made
%% before it, or those it names. `limit' (10,000) is how many there may be.
-spec unfold(
    State,
    fun((State) -> {node_spec(), State} | {node_spec(), From :: [name()], State} | stop),
    #{limit => pos_integer()}
) -> template() | error().
unfold(State, Next, Options) ->
    Limit = maps:get(limit, Options, 10_000),
    unfold(Next(State), Next, {Limit, Limit}, [], []).

unfold(stop, _Next, _Limit, Nodes, Edges) ->
    graph(lists:reverse(Nodes), lists:append(lists:reverse(Edges)));
unfold(_Made, _Next, {0, Limit}, _Nodes, _Edges) ->
    {error, {too_many_nodes, Limit}};
unfold({Node, State}, Next, Limit, Nodes, Edges) ->
    Last = [name(Each) || Each <- lists:sublist(Nodes, 1)],
    unfold({Node, Last, State}, Next, Limit, Nodes, Edges);
unfold({Node, From, State}, Next, {Left, Limit}, Nodes, Edges) ->
    In = [{Each, name(Node)} || Each <- From],
    unfold(Next(State), Next, {Left - 1, Limit}, [Node | Nodes], [In | Edges]).

-spec nodes(template()) -> [node_spec()].
nodes(#{nodes := Nodes}) ->
    Nodes.

-spec edges(template()) -> [{name(), name()}].
edges(#{edges := Edges}) ->
    Edges.

%% @doc As a digraph of the standard library, labels being the nodes' homes; its
%% owner is the caller.
-spec to_digraph(template()) -> digraph:graph().
to_digraph(#{nodes := Nodes, edges := Edges}) ->
    Graph = digraph:new([acyclic]),
    lists:foreach(fun(#{name := N, home := Home}) -> digraph:add_vertex(Graph, N, Home) end, Nodes),
    lists:foreach(fun({From, To}) -> digraph:add_edge(Graph, From, To) end, Edges),
    Graph.

%% @doc In the language of Graphviz; native nodes are boxes.
-spec to_dot(template() | coop_names:address()) -> iodata().
to_dot(#{nodes := Nodes, edges := Edges}) ->
    Vertices = [{Name, shape(Home)} || #{name := Name, home := Home} <- Nodes],
    dot(Vertices, Edges);
to_dot(Coop) ->
    #{nodes := Nodes, edges := Edges} = coop_process:ask(coop_names:head(Coop), info, 5000),
    Here = node(),
    Vertices = [
        {Name, shape(case node(Pid) of Here -> vm; _ -> native end)}
     || {Name, Pid} <- Nodes
    ],
    %% those by `consume' are many, and none for long
    Workers = lists:usort([To || {_, To} <- Edges, not lists:keymember(To, 1, Nodes)]),
    dot(Vertices ++ [{Name, "box3d"} || Name <- Workers], Edges).

shape(vm) -> "ellipse";
shape(native) -> "box".

dot(Vertices, Edges) ->
    unicode:characters_to_binary([
        "digraph coop {\n",
        [io_lib:format("  ~ts [shape=~s];\n", [quoted(Name), Shape]) || {Name, Shape} <- Vertices],
        [
            io_lib:format("  ~ts -> ~ts;\n", [quoted(From), quoted(To)])
         || {From, To} <- Edges
        ],
        "}\n"
    ]).

quoted(Name) ->
    [$", string:replace(string:replace(atom_to_list(Name), "\\", "\\\\", all), "\"", "\\\"", all), $"].

%%% Checks

name(#{name := Name}) -> Name;
name(Other) -> Other.

-spec fail(term()) -> no_return().
fail(Reason) ->
    throw({?MODULE, Reason}).

check_node(#{name := Name, home := _, options := _}) when is_atom(Name), Name =/= undefined -> ok;
check_node(#{name := Name, home := _}) -> fail({bad_name, Name});
check_node(Other) -> fail({bad_node, Other}).

check_unique(Things, Reason) ->
    _ = lists:foldl(
        fun(Thing, Seen) ->
            is_map_key(Thing, Seen) andalso fail({Reason, Thing}),
            Seen#{Thing => seen}
        end,
        #{},
        Things
    ),
    ok.

check_edges(Edges, Known) ->
    lists:foreach(
        fun
            ({From, To}) ->
                [fail({unknown_node, Name}) || Name <- [From, To], not is_map_key(Name, Known)];
            (Other) ->
                fail({bad_edge, Other})
        end,
        Edges
    ).

%% Depth first; a node met again while it is on the path closes a cycle.
check_acyclic(Names, Edges) ->
    Next = lists:foldl(
        fun({From, To}, Acc) -> maps:update_with(From, fun(Tos) -> [To | Tos] end, [To], Acc) end,
        #{},
        lists:reverse(Edges)
    ),
    _ = lists:foldl(fun(Name, Done) -> visit(Name, [], #{}, Next, Done) end, #{}, Names),
    ok.

visit(Name, Path, OnPath, Next, Done) ->
    case {Done, OnPath} of
        {#{Name := _}, _} ->
            Done;
        {_, #{Name := _}} ->
            {Cycle, _} = lists:splitwith(fun(Each) -> Each =/= Name end, Path),
            fail({cycle, [Name | lists:reverse(Cycle)]});
        _ ->
            Done2 = lists:foldl(
                fun(To, Acc) -> visit(To, [Name | Path], OnPath#{Name => on}, Next, Acc) end,
                Done,
                maps:get(Name, Next, [])
            ),
            Done2#{Name => done}
    end.
