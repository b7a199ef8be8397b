%% A template made live. Native nodes are made by their C-node, those of this VM
%% here, and then all are wired pid to pid. Runs inside the VM's kill switch,
%% which traps exits and is linked to whatever is started: if anything here
%% fails, the switch ends and takes the rest along.
-module(coop_body).

-export([key/2]).
-export([has_native/1]).
-export([has_vm/1]).
-export([head_home/1]).
-export([start/3]).
%% once more
-export([edges/1]).
-export([again/4]).
-export([add/2]).
-export([request/4]).
%% nodes made late
-export([workers/1]).
-export([slab/3]).
-export([out_of/2]).
-export([worker_wiring/3]).
-export([late_wiring/3]).
-export_type([spec/0, body/0, losses/0, edge_end/0, target/0]).

%% What a worker of a `consume' may have underway to one node: it gives a few
%% results, and there are many of them.
-define(WORKER_WINDOW, 4).

%% doc/messages.md, "Starting". On this VM nodes of the home `vm' have what
%% coop_node needs besides.
-type spec() :: #{
    nodes := [map()],
    edges := [{atom(), atom()}],
    window := pos_integer(),
    name := atom() | undefined,
    max_queue := pos_integer(),
    max_queue_bytes := pos_integer(),
    receiver := coop_receiver:destination(),
    overload := coop_overload:policy(),
    dead_letter := coop_dead_letter:destination(),
    restart := none | {Intensity :: non_neg_integer(), Period :: pos_integer()},
    tag := coop_results:tag(),
    batch := coop_results:batch(),
    %% that the nodes are of, and how data are dealt out to them
    instances := pos_integer(),
    dataflow := coop_dataflow:method(),
    %% whose change of code is the co-op's
    modules := [module()]
}.
%% What lives of it. `nodes' are those of this VM, `other' is the kill switch on
%% the C-node. Ledgers are kept if the body may be restarted.
-type body() :: #{
    spec := spec(),
    parent := pid(),
    head := pid(),
    other := pid() | undefined,
    nodes := [{atom(), pid()}],
    %% of those by `consume' the first workers, here; and all other nodes, in both
    %% homes
    workers := [{atom(), [pid()]}],
    pids := #{atom() => pid()},
    ledgers := #{edge_end() => coop_ledger:ledger()}
}.
%% Where a node's results may go, and by which edge of the template.
-type target() :: {coop_edges:edge(), atom(), pid()}.
%% What became of data that were inside a body which was made again, and how many
%% results it has delivered, modulo 2^32.
-type losses() :: #{
    lost => non_neg_integer(),
    dead_lettered => non_neg_integer(),
    delivered => non_neg_integer()
}.
%% A node by its name, or the head.
-type edge_end() :: atom() | [].

%% @doc What tells a restart of a co-op from the start of another one.
-spec key(pid(), spec()) -> term().
key(Parent, Spec) ->
    {Parent, erlang:phash2(Spec)}.

-spec has_native(spec()) -> boolean().
has_native(#{nodes := Nodes}) ->
    lists:any(fun(#{home := Home}) -> Home =:= native end, Nodes).

-spec has_vm(spec()) -> boolean().
has_vm(#{nodes := Nodes}) ->
    lists:any(fun(#{home := Home}) -> Home =:= vm end, Nodes).

%% @doc Where the entry nodes are, if they are in one home.
-spec head_home(spec()) -> native | vm.
head_home(Spec) ->
    case lists:all(fun(#{home := Home}) -> Home =:= native end, entries(Spec)) of
        true -> native;
        false -> vm
    end.

%% @doc An error names what there is on the C-node by then, which the caller is
%% not linked to.
-spec start(spec(), pid(), node() | undefined) ->
    {ok, body()} | {error, term(), Native :: [pid()]}.
start(Spec, Parent, CNode) ->
    Monitor = monitor(process, Parent),
    Result =
        try
            Head = start_head(Spec, Parent),
            start(Spec, Parent, Monitor, Head, prepare(Spec, CNode, Monitor))
        catch
            throw:{?MODULE, Reason} -> {error, Reason, []}
        end,
    demonitor(Monitor, [flush]),
    Result.

start(Spec, Parent, Monitor, Head0, Prepared) ->
    #{switch := Other, head := Head1, nodes := Native, workers := NativeWorkers} = Prepared,
    try
        Head = first_pid(Head0, Head1),
        {Workers, Nodes} = lists:partition(
            fun({_, Started}) -> is_list(Started) end, start_nodes(Spec, Monitor)
        ),
        Pids = maps:from_list(Nodes ++ Native),
        Body = #{
            spec => Spec,
            parent => Parent,
            head => Head,
            other => Other,
            nodes => Nodes,
            workers => Workers,
            pids => Pids,
            ledgers => ledgers(Spec, Nodes, #{}, #{})
        },
        Wiring = #{head => Head, nodes => Nodes ++ Native, workers => Workers ++ NativeWorkers},
        wire_native(Other, Wiring, Parent, Monitor),
        wire_nodes(Body, Pids, #{}, #{}, Workers ++ NativeWorkers),
        [await_wired(Pid, Monitor) || {_Name, Pid} <- Nodes],
        case is_pid(Head0) of
            true ->
                coop_head:wire(Head, head_wiring(Body, Pids, #{})),
                await_wired(Head, Monitor);
            false ->
                link(Head)
        end,
        {ok, Body}
    catch
        throw:{?MODULE, Reason} ->
            Known = [P || {_, P} <- Native] ++ lists:append([Ps || {_, Ps} <- NativeWorkers]),
            {error, Reason, [Pid || Pid <- [Other, Head1 | Known], is_pid(Pid)]}
    end.

first_pid(undefined, Pid) -> Pid;
first_pid(Pid, _) -> Pid.

%% @doc Makes nodes in the place of those that are gone, to go on with what was
%% `Held' by these. The head is told why, and what became of the other data inside:
%% `Losses', to which the C-node adds its own. An error has them all.
-spec again(body(), #{atom() => [term()]}, term(), losses()) ->
    {ok, body()} | {error, term(), losses()}.
again(Body = #{head := Head, other := Other}, Held, Reason, Losses0) ->
    Monitor = monitor(process, Head),
    Result =
        case again(fun() -> rebuild_native(Other, Monitor) end) of
            {ok, Native} ->
                Losses = add(maps:get(losses, Native), Losses0),
                case again(fun() -> wire_again(Body, Held, Native, {Reason, Losses}, Monitor) end) of
                    {ok, Body2} -> {ok, Body2};
                    {error, Why} -> {error, Why, Losses}
                end;
            {error, Why} ->
                {error, Why, Losses0}
        end,
    demonitor(Monitor, [flush]),
    Result.

again(Fun) ->
    try
        {ok, Fun()}
    catch
        throw:{?MODULE, Why} -> {error, Why}
    end.

%% @doc The sum of what became of data in two places.
-spec add(losses(), losses()) -> losses().
add(A, B) ->
    maps:merge_with(fun(_What, M, N) -> M + N end, A, B).

rebuild_native(undefined, _Monitor) ->
    #{nodes => [], held => [], losses => #{}};
rebuild_native(Other, Monitor) ->
    case request(Other, '$coop', rebuild, Monitor) of
        {ok, Rebuilt} -> Rebuilt;
        {error, Reason} -> fail(Reason)
    end.

wire_again(Body, Held, #{nodes := There, held := Waiting}, Restarted, Monitor) ->
    #{spec := Spec, head := Head, other := Other, ledgers := Ledgers0} = Body,
    Nodes = start_nodes(Spec, Monitor),
    Carried = maps:merge(maps:from_list(Waiting), count(Held)),
    Wiring = #{
        head => Head,
        nodes => Nodes ++ There,
        held => maps:to_list(count(Held)),
        restarted => Restarted
    },
    wire_native(Other, Wiring, Head, Monitor),
    Pids = maps:from_list(Nodes ++ There),
    Ledgers = ledgers(Spec, Nodes, Carried, Ledgers0),
    Body2 = Body#{nodes := Nodes, pids := Pids, ledgers := Ledgers},
    wire_nodes(Body2, Pids, Carried, Held, []),
    %% one that ends from here on is the next reason for a restart
    is_map_key([], Ledgers) andalso
        begin
            HeadWiring = head_wiring(Body2, Pids, Carried),
            coop_head:wire(Head, HeadWiring#{restarted => Restarted}),
            await_wired(Head, Monitor)
        end,
    Body2.

%% How many data wait for their receiver already, by edge.
count(Held) ->
    lists:foldl(
        fun
            ({'$coop', data, Edge, _, _, _}, Acc) ->
                maps:update_with(Edge, fun(N) -> N + 1 end, 1, Acc);
            (_Plain, Acc) ->
                Acc
        end,
        #{},
        lists:append(maps:values(Held))
    ).

-spec fail(term()) -> no_return().
fail(Reason) ->
    throw({?MODULE, Reason}).

%%% Processes

start_head(Spec, Parent) ->
    case head_home(Spec) of
        native ->
            undefined;
        vm ->
            case coop_head:start_link(Parent, Spec) of
                {ok, Head} -> Head;
                {error, Reason} -> fail(Reason)
            end
    end.

entries(#{nodes := Nodes, edges := Edges}) ->
    Fed = maps:from_list([{To, fed} || {_From, To} <- Edges]),
    [Node || Node = #{name := Name} <- Nodes, not is_map_key(Name, Fed)].

prepare(_Spec, undefined, _Monitor) ->
    #{switch => undefined, head => undefined, nodes => [], workers => []};
prepare(Spec, CNode, Monitor) ->
    Request = {prepare, esp_config:wire_spec(Spec)},
    case request({erlangsp, CNode}, '$gen_call', Request, Monitor) of
        {ok, Prepared} -> Prepared;
        {error, Reason} -> fail(Reason)
    end.

wire_native(undefined, _Wiring, _Parent, _Monitor) ->
    ok;
wire_native(Other, Wiring, Parent, Monitor) ->
    case request(Other, '$coop', {wire, Wiring#{switch => self()}, Parent}, Monitor) of
        ok -> ok;
        {error, Reason} -> fail(Reason)
    end.

%% @doc A gen call as long as an init may take, and the process lives for whose
%% sake it is. Throws what is an error of {@link start/3}, {@link again/4}.
-spec request(pid() | {atom(), node()}, atom(), term(), reference()) -> term().
-dialyzer({no_improper_lists, request/4}).
request(Process, Label, Request, Monitor) ->
    Alias = monitor(process, Process, [{alias, reply_demonitor}]),
    Process ! {Label, {self(), [alias | Alias]}, Request},
    receive
        {[alias | Alias], Reply} ->
            Reply;
        {'DOWN', Alias, process, _, Reason} ->
            fail(Reason);
        {'DOWN', Monitor, process, _, Reason} ->
            demonitor(Alias, [flush]),
            fail(Reason)
    end.

start_nodes(Spec = #{nodes := Nodes}, Parent) ->
    Start = fun(Node) ->
        case coop_node:start_link(Node, Spec, Parent) of
            {ok, Pid} -> Pid;
            {error, Reason} -> fail(Reason)
        end
    end,
    [
        case Node of
            #{used_by := Router} ->
                #{dataflow := {consume, {Initial, _, _}}} = node_of(Router, Spec),
                {Name, [Start(Node) || _ <- lists:seq(1, Initial)]};
            #{} ->
                {Name, Start(Node)}
        end
     || Node = #{name := Name, home := vm} <- Nodes
    ].

node_of(Name, #{nodes := Nodes}) ->
    [Node] = [Node || Node = #{name := Each} <- Nodes, Each =:= Name],
    Node.

%%% Wires

%% @doc With its number; those from the head to the entry nodes follow the
%% template's.
-spec edges(spec()) -> [{coop_edges:edge(), From :: edge_end(), To :: atom()}].
edges(Spec = #{edges := Pairs}) ->
    Ends = Pairs ++ [{[], Name} || #{name := Name} <- entries(Spec)],
    [{Edge, From, To} || {Edge, {From, To}} <- lists:zip(lists:seq(1, length(Ends)), Ends)].

%% One for each node here, and for the head if it is here, which keeps its own.
ledgers(#{restart := none}, _Nodes, _Carried, _Old) ->
    #{};
ledgers(Spec, Nodes, Carried, Old) ->
    Sent = fun(Sender) ->
        [{Edge, waiting(Edge, Carried)} || {Edge, From, _} <- edges(Spec), From =:= Sender]
    end,
    Ledgers = maps:from_list([{Name, coop_ledger:new(Sent(Name))} || {Name, _Pid} <- Nodes]),
    case {head_home(Spec), Old} of
        {native, _} ->
            Ledgers;
        {vm, #{[] := OfHead}} ->
            ok = coop_ledger:reset(Sent([]), OfHead),
            Ledgers#{[] => OfHead};
        {vm, #{}} ->
            Ledgers#{[] => coop_ledger:new(Sent([]))}
    end.

waiting(Edge, Carried) -> maps:get(Edge, Carried, 0).

wire_nodes(Body, Pids, Carried, Held, Workers) ->
    #{spec := Spec, head := Head, nodes := Nodes, ledgers := Ledgers} = Body,
    #{nodes := All} = Spec,
    LastTier = last_tier(Spec),
    Edges = edges(Spec),
    Bases = maps:from_list([{Name, coop_instances:base(Node)} || #{name := Name} = Node <- All]),
    Routers = maps:from_list([{Name, Router} || #{name := Name, used_by := Router} <- All]),
    %% in its workers' stead a router passes barriers on
    Sender = fun
        ([]) ->
            Head;
        (Name) ->
            maps:get(maps:get(Name, Routers, Name), Pids)
    end,
    In = group([{To, {Edge, Sender(From)}} || {Edge, From, To} <- Edges]),
    Out = group([
        {From, {Edge, maps:get(To, Bases), maps:get(To, Pids, workers), waiting(Edge, Carried)}}
     || {Edge, From, To} <- Edges
    ]),
    lists:foreach(
        fun({Name, Pid}) ->
            NodeOut = maps:get(Name, Out, []),
            Wiring = #{
                head => Head,
                last_tier => LastTier,
                in => maps:get(Name, In, []),
                out => NodeOut,
                ledger => maps:get(Name, Ledgers, undefined),
                held => maps:get(Name, Held, [])
            },
            coop_node:wire(
                Pid,
                case NodeOut of
                    [{_Edge, _, workers, _}] ->
                        [Worker] = [To || {_, From, To} <- Edges, From =:= Name],
                        Fresh = proplists:get_value(Worker, Workers),
                        Wiring#{workers => workers(Name, Worker, Fresh, Body)};
                    _ ->
                        Wiring
                end
            )
        end,
        Nodes
    ).

%%% Nodes made late

%% @doc The first workers that are here, of each node by `consume'.
-spec workers(body()) -> [{atom(), [pid()]}].
workers(#{workers := Workers}) ->
    Workers.

%% What a router knows of them.
workers(Router, Worker, Fresh, Body = #{spec := Spec, other := Other}) ->
    #{dataflow := {consume, {_, Threshold, _}}} = node_of(Router, Spec),
    Supplier =
        case node_of(Worker, Spec) of
            #{home := vm} -> self();
            _ -> Other
        end,
    Beyond = [{Edge, Pid} || {Edge, _To, Pid} <- out_of(Worker, Body)],
    coop_workers:new(Fresh, Threshold, maps:get(window, Spec), Supplier, Beyond).

%% @doc The worker that a router's edge leads to, if it is made here, and how many
%% of them at a time.
-spec slab(pid(), term(), body()) -> {ok, map(), pos_integer()} | error.
slab(RouterPid, Edge, #{spec := Spec, pids := Pids}) ->
    case lists:keyfind(Edge, 1, edges(Spec)) of
        {Edge, Router, To} when map_get(Router, Pids) =:= RouterPid ->
            case {node_of(To, Spec), node_of(Router, Spec)} of
                {Node = #{home := vm, used_by := Router}, #{dataflow := {consume, {_, _, N}}}} ->
                    {ok, Node, N};
                _ ->
                    error
            end;
        _ ->
            error
    end.

%% @doc Where the template's edges of a worker lead.
-spec out_of(atom(), body()) -> [target()].
out_of(Worker, #{spec := Spec, pids := Pids}) ->
    [
        {Edge, coop_instances:base(node_of(To, Spec)), maps:get(To, Pids)}
     || {Edge, From, To} <- edges(Spec), From =:= Worker
    ].

%% @doc The wiring of a worker: its edges, each with the one that it is behind.
-spec worker_wiring(atom(), [{coop_edges:edge(), coop_edges:edge(), atom(), pid()}], body()) ->
    coop_node:wiring().
worker_wiring(Worker, Out, Body = #{spec := Spec = #{window := Window}, pids := Pids}) ->
    [{MakersEdge, Router}] = [{Edge, From} || {Edge, From, To} <- edges(Spec), To =:= Worker],
    Wiring = late_wiring({maps:get(Router, Pids), MakersEdge}, Out, Body),
    Wiring#{in := [], window => min(Window, ?WORKER_WINDOW)}.

%% @doc The same of a node that the task of another has started.
-spec late_wiring(
    {Maker :: pid(), coop_edges:edge()},
    [{coop_edges:edge(), coop_edges:edge(), atom(), pid()}],
    body()
) -> coop_node:wiring().
late_wiring(Origin = {Maker, MakersEdge}, Out, #{spec := Spec, head := Head}) ->
    #{
        head => Head,
        last_tier => last_tier(Spec),
        in => [{MakersEdge, Maker}],
        out => [{Edge, To, Pid, 0} || {Edge, _Behind, To, Pid} <- Out],
        ledger => undefined,
        held => [],
        origin => Origin,
        behind => maps:from_list([{Edge, Behind} || {Edge, Behind, _To, _Pid} <- Out])
    }.

head_wiring(#{spec := Spec, other := Other, ledgers := Ledgers}, Pids, Carried) ->
    #{nodes := Nodes, edges := Pairs} = Spec,
    #{
        out => [
            {Edge, maps:get(To, Pids), waiting(Edge, Carried)}
         || {Edge, [], To} <- edges(Spec)
        ],
        ledger => maps:get([], Ledgers, undefined),
        nodes => [{Name, maps:get(Name, Pids)} || #{name := Name} <- Nodes, is_map_key(Name, Pids)],
        edges => Pairs,
        switches => [self() | [Other || is_pid(Other)]],
        last_tier => last_tier(Spec)
    }.

last_tier(#{nodes := Nodes, edges := Pairs}) ->
    length(Nodes) - length(lists:usort([From || {From, _To} <- Pairs])).

group(Pairs) ->
    lists:foldr(
        fun({Key, Value}, Acc) ->
            maps:update_with(Key, fun(Values) -> [Value | Values] end, [Value], Acc)
        end,
        #{},
        Pairs
    ).

await_wired(Pid, Monitor) ->
    receive
        {'$coop', wired, Pid} ->
            ok;
        {'EXIT', Pid, Reason} ->
            %% the head's is an order, too, for who comes after this
            self() ! {'EXIT', Pid, Reason},
            fail(Reason);
        {'DOWN', Monitor, process, _, Reason} -> fail(Reason)
    end.
