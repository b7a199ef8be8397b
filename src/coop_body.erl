%% A template made live. Native nodes are made by their C-node, those of this VM
%% here, and then all are wired pid to pid. Runs inside the VM's kill switch,
%% which traps exits and is linked to whatever is started: if anything here
%% fails, the switch ends and takes the rest along.
-module(coop_body).

-export([key/2]).
-export([has_native/1]).
-export([has_vm/1]).
-export([start/3]).
-export_type([spec/0]).

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
    tag := coop_results:tag(),
    batch := coop_results:batch()
}.

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
    {ok, Head :: pid(), Other :: pid() | undefined, VmNodes :: [{atom(), pid()}]}
    | {error, term(), Native :: [pid()]}.
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
        wire_native(Other, Head, Nodes ++ Native, Parent, Monitor),
        wire(Spec, Monitor, Head, is_pid(Head0), Other, Nodes, maps:from_list(Nodes ++ Native)),
        {ok, Head, Other, Nodes}
    catch
        throw:{?MODULE, Reason} ->
            {error, Reason, [Pid || Pid <- [Other, Head1 | [P || {_, P} <- Native]], is_pid(Pid)]}
    end.

first_pid(undefined, Pid) -> Pid;
first_pid(Pid, _) -> Pid.

-spec fail(term()) -> no_return().
fail(Reason) ->
    throw({?MODULE, Reason}).

%%% Processes

start_head(Spec, Parent) ->
    case lists:all(fun(#{home := Home}) -> Home =:= native end, entries(Spec)) of
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

wire_native(undefined, _Head, _Nodes, _Parent, _Monitor) ->
    ok;
wire_native(Other, Head, Nodes, Parent, Monitor) ->
    Pids = #{head => Head, switch => self(), nodes => Nodes},
    case request(Other, '$coop', {wire, Pids, Parent}, Monitor) of
        ok -> ok;
        {error, Reason} -> fail(Reason)
    end.

%% A gen call as long as an init may take, and the parent lives.
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

wire(Spec, Monitor, Head, HeadIsHere, Other, Nodes, Pids) ->
    #{edges := Pairs} = Spec,
    Entries = [Name || #{name := Name} <- entries(Spec)],
    Numbered = lists:zip(lists:seq(1, length(Pairs)), Pairs),
    First = length(Pairs) + 1,
    FromHead = lists:zip(lists:seq(First, First + length(Entries) - 1), Entries),
    In = group(
        [{To, {Edge, maps:get(From, Pids)}} || {Edge, {From, To}} <- Numbered] ++
            [{Entry, {Edge, Head}} || {Edge, Entry} <- FromHead]
    ),
    Out = group([{From, {Edge, To, maps:get(To, Pids)}} || {Edge, {From, To}} <- Numbered]),
    LastTier = map_size(Pids) - map_size(Out),
    Wiring = fun(Name) ->
        #{
            head => Head,
            last_tier => LastTier,
            in => maps:get(Name, In, []),
            out => maps:get(Name, Out, [])
        }
    end,
    lists:foreach(fun({Name, Pid}) -> coop_node:wire(Pid, Wiring(Name)) end, Nodes),
    lists:foreach(fun({_Name, Pid}) -> await_wired(Pid, Monitor) end, Nodes),
    case HeadIsHere of
        true ->
            coop_head:wire(Head, #{
                out => [{Edge, maps:get(Entry, Pids)} || {Edge, Entry} <- FromHead],
                nodes => [{Name, maps:get(Name, Pids)} || #{name := Name} <- maps:get(nodes, Spec)],
                edges => Pairs,
                switches => [self() | [Other || is_pid(Other)]],
                last_tier => LastTier
            }),
            await_wired(Head, Monitor);
        false ->
            link(Head)
    end.

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
        {'$coop', wired, Pid} -> ok;
        {'EXIT', Pid, Reason} -> fail(Reason);
        {'DOWN', Monitor, process, _, Reason} -> fail(Reason)
    end.
