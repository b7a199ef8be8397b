%% A template made live. Native nodes are made by their C-node, those of this VM
%% here, and then all are wired pid to pid. Runs inside the VM's kill switch,
%% which traps exits and is linked to whatever is started: if anything here
%% fails, the switch ends and takes the rest along.
-module(coop_body).

-export([key/2]).
-export([has_native/1]).
-export([has_vm/1]).
-export([start/3]).
%% once more
-export([edges/1]).
-export([again/4]).
-export([add/2]).
-export([request/4]).
-export_type([spec/0, body/0, losses/0, edge_end/0]).

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
    batch := coop_results:batch()
}.
%% What lives of it. `nodes' are those of this VM, `other' is the kill switch on
%% the C-node. Ledgers are kept if the body may be restarted.
-type body() :: #{
    spec := spec(),
    parent := pid(),
    head := pid(),
    other := pid() | undefined,
    nodes := [{atom(), pid()}],
    ledgers := #{edge_end() => coop_ledger:ledger()}
}.
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

start(Spec, Parent, Monitor, Head0, #{switch := Other, head := Head1, nodes := Native}) ->
    try
        Head = first_pid(Head0, Head1),
        Nodes = start_nodes(Spec, Monitor),
        Body = #{
            spec => Spec,
            parent => Parent,
            head => Head,
            other => Other,
            nodes => Nodes,
            ledgers => ledgers(Spec, Nodes, #{}, #{})
        },
        Pids = maps:from_list(Nodes ++ Native),
        wire_native(Other, #{head => Head, nodes => Nodes ++ Native}, Parent, Monitor),
        wire_nodes(Body, Pids, #{}, #{}),
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
            {error, Reason, [Pid || Pid <- [Other, Head1 | [P || {_, P} <- Native]], is_pid(Pid)]}
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
    Body2 = Body#{nodes := Nodes, ledgers := Ledgers},
    wire_nodes(Body2, Pids, Carried, Held),
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

is_head_native(Spec) ->
    lists:all(fun(#{home := Home}) -> Home =:= native end, entries(Spec)).

start_head(Spec, Parent) ->
    case is_head_native(Spec) of
        true ->
            undefined;
        false ->
            case coop_head:start_link(Parent, Spec) of
                {ok, Head} -> Head;
                {error, Reason} -> fail(Reason)
            end
    end.

entries(#{nodes := Nodes, edges := Edges}) ->
    Fed = maps:from_list([{To, fed} || {_From, To} <- Edges]),
    [Node || Node = #{name := Name} <- Nodes, not is_map_key(Name, Fed)].

prepare(_Spec, undefined, _Monitor) ->
    #{switch => undefined, head => undefined, nodes => []};
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
    [
        case coop_node:start_link(Node, Spec, Parent) of
            {ok, Pid} -> {Name, Pid};
            {error, Reason} -> fail(Reason)
        end
     || Node = #{name := Name, home := vm} <- Nodes
    ].

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
    case {is_head_native(Spec), Old} of
        {true, _} ->
            Ledgers;
        {false, #{[] := OfHead}} ->
            ok = coop_ledger:reset(Sent([]), OfHead),
            Ledgers#{[] => OfHead};
        {false, #{}} ->
            Ledgers#{[] => coop_ledger:new(Sent([]))}
    end.

waiting(Edge, Carried) -> maps:get(Edge, Carried, 0).

wire_nodes(#{spec := Spec, head := Head, nodes := Nodes, ledgers := Ledgers}, Pids, Carried, Held) ->
    Edges = edges(Spec),
    Sender = fun
        ([]) -> Head;
        (Name) -> maps:get(Name, Pids)
    end,
    In = group([{To, {Edge, Sender(From)}} || {Edge, From, To} <- Edges]),
    Out = group([
        {From, {Edge, To, maps:get(To, Pids), waiting(Edge, Carried)}}
     || {Edge, From, To} <- Edges
    ]),
    lists:foreach(
        fun({Name, Pid}) ->
            coop_node:wire(Pid, #{
                head => Head,
                last_tier => last_tier(Spec),
                in => maps:get(Name, In, []),
                out => maps:get(Name, Out, []),
                ledger => maps:get(Name, Ledgers, undefined),
                held => maps:get(Name, Held, [])
            })
        end,
        Nodes
    ).

head_wiring(#{spec := Spec, other := Other, ledgers := Ledgers}, Pids, Carried) ->
    #{nodes := Nodes, edges := Pairs} = Spec,
    #{
        out => [
            {Edge, maps:get(To, Pids), waiting(Edge, Carried)}
         || {Edge, [], To} <- edges(Spec)
        ],
        ledger => maps:get([], Ledgers, undefined),
        nodes => [{Name, maps:get(Name, Pids)} || #{name := Name} <- Nodes],
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
