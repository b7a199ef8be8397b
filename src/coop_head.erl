%% The head of a co-op whose entry nodes are not all native: the process that
%% users address. It passes each datum to every entry node of an instance, grants
%% credit to the VMs that relay, and turns a flush into a barrier.
%%
%% The head does not trap exits. A process that does cannot tell an exit signal
%% from a plain message `{'EXIT', Pid, Reason}', and of the two the first must
%% end a head and the second must not. So a signal ends it at once, as it ends a
%% gen_server that does not trap, and its kill switches clear up behind it;
%% coop_body makes a later start of the same parent wait for that. Asked to end
%% by `sys', or by its parent's normal end, it sees its body out first.
-module(coop_head).

-behaviour(coop_process).

-export([start_link/2]).
-export([wire/2]).
-export([register_as/1]).
-export([init/3]).
-export([handle_datum/3]).
-export([handle_barrier/2]).
-export([handle_control/3]).
-export([is_ours/2]).
-export([info/1]).
-export([modules/1]).
-export([get_state/1]).
-export([body_change/4]).
-export([terminate/2]).

%% What one relaying VM may have on its way here, in bytes.
-define(RELAY_CREDIT, 256 * 1024).
-define(PRIORITY_CREDIT, 64 * 1024).
%% Edges of one sender. A VM that relays has two.
-define(MAX_EDGES, 4).

-type wiring() :: #{
    %% with how many data wait there already
    out := [{coop_edges:edge(), pid(), non_neg_integer()}],
    ledger := coop_ledger:ledger() | undefined,
    %% of a body made again: what became of data inside the last one
    restarted => {Reason :: term(), coop_body:losses()},
    nodes := [{atom(), pid()}],
    edges := [{atom(), atom()}],
    switches := [pid()],
    last_tier := non_neg_integer()
}.
-export_type([wiring/0]).

-record(head, {
    name :: atom() | undefined,
    modules :: [module()],
    parent :: reference(),
    window :: pos_integer(),
    rule :: block | shed,
    instances :: pos_integer(),
    method :: coop_dataflow:method(),
    dataflow :: coop_dataflow:dataflow(),
    nodes :: [{atom(), pid()}],
    edges :: [{atom(), atom()}],
    switches :: #{reference() => pid()},
    %% of a receiver {demand, Pid}, who is watched
    demand :: none | {reference(), coop_demand:demand()},
    %% the senders attached, each of which is watched
    relays = #{} :: #{reference() => {pid(), relay | priority | edge, coop_edges:edge()}},
    next_edge :: coop_edges:edge(),
    %% of a body that may be restarted: calls and flushes inside it, the latter
    %% with the marks that are there
    calls :: undefined | #{From :: term() => []},
    flushes = #{} :: #{Ref :: term() => {pid(), non_neg_integer()}},
    restarts = 0 :: non_neg_integer(),
    losses = #{lost => 0, dead_lettered => 0} :: coop_body:losses()
}).

%% @doc Starts the head and registers its name; it lives on once
%% {@link wire/2} has linked it to the co-op's parent.
-spec start_link(pid(), map()) -> {ok, pid()} | {error, {already_started, pid()}}.
start_link(Parent, Spec) ->
    proc_lib:start_link(?MODULE, init, [self(), Parent, maps:remove(nodes, Spec)]).

-spec wire(pid(), wiring()) -> ok.
wire(Head, Wiring) ->
    Head ! {'$coop', wire, self(), Wiring},
    ok.

-spec init(pid(), pid(), map()) -> no_return() | ok.
init(Switch, Parent, Spec = #{name := Name}) ->
    case register_as(Name) of
        ok ->
            proc_lib:init_ack({ok, self()}),
            receive
                {'$coop', wire, Switch, Wiring} -> run(Switch, Parent, Spec, Wiring)
            end;
        {error, Taken} ->
            proc_lib:init_ack({error, {already_started, Taken}})
    end.

%% @doc Registers the calling process, unless the name is `undefined'.
-spec register_as(atom()) -> ok | {error, Bearer :: pid()}.
register_as(undefined) ->
    ok;
register_as(Name) ->
    try register(Name, self()) of
        true -> ok
    catch
        error:badarg -> taken(Name)
    end.

taken(Name) ->
    case whereis(Name) of
        %% gone in the meantime
        undefined -> register_as(Name);
        Pid -> {error, Pid}
    end.

run(Switch, Parent, Spec, Wiring) ->
    #{window := Window, name := Name, instances := Instances, dataflow := Method} = Spec,
    #{out := Out, switches := Switches, nodes := Nodes, edges := Pairs} = Wiring,
    %% to its users the head's ancestors are its parent and that one's
    put('$ancestors', lists:delete(Switch, get('$ancestors'))),
    #{overload := Policy, max_queue := MaxQueue, max_queue_bytes := MaxBytes} = Spec,
    Overload = coop_overload:new(Policy, MaxQueue, MaxBytes),
    Monitor = monitor(process, Parent),
    Ledger = maps:get(ledger, Wiring),
    [link(Other) || Other <- Switches, Other =/= Switch],
    Watched = maps:from_list([{monitor(process, Each), Each} || Each <- Switches]),
    %% The parent must be linked before it hears of the pid.
    link(Parent),
    Switch ! {'$coop', wired, self()},
    coop_process:enter_loop(?MODULE, #{
        name => head,
        parent => Parent,
        head => self(),
        ledger => Ledger,
        edges => add_out(Out, Window, coop_edges:new()),
        needs => needs(Spec),
        last_tier => maps:get(last_tier, Wiring),
        overload => Overload,
        dead_letter => maps:get(dead_letter, Spec),
        max_queue => MaxQueue,
        max_queue_bytes => MaxBytes,
        state => #head{
            name = Name,
            modules = [?MODULE | maps:get(modules, Spec)],
            parent = Monitor,
            window = Window,
            rule = coop_overload:rule(Overload),
            instances = Instances,
            method = Method,
            dataflow = dataflow(Method, Instances, Out),
            calls =
                case Ledger of
                    undefined -> undefined;
                    _ -> #{}
                end,
            nodes = Nodes,
            edges = Pairs,
            switches = Watched,
            demand = demand(maps:get(receiver, Spec)),
            next_edge = length(Pairs) + length(Out) + 1
        }
    }).

%% With several instances one that is full need not keep the others from theirs.
needs(#{instances := 1}) -> all;
needs(_Spec) -> any.

demand({demand, Pid}) -> {monitor(process, Pid), coop_demand:new()};
demand(_Receiver) -> none.

%% The instances by their numbers; the entry edges of each follow each other.
dataflow(Method, Instances, Out) ->
    Ways = ways(length(Out) div Instances, [Edge || {Edge, _Pid, _Waiting} <- Out]),
    coop_dataflow:new(Method, lists:zip(Ways, lists:seq(1, Instances))).

ways(_Width, []) ->
    [];
ways(Width, Edges) ->
    {Way, Rest} = lists:split(Width, Edges),
    [Way | ways(Width, Rest)].

add_out(Out, Window, Edges) ->
    lists:foldl(
        fun({Edge, Pid, Waiting}, Acc) -> coop_edges:add_out(Edge, Pid, Window - Waiting, Acc) end,
        Edges,
        Out
    ).

%% A datum that cannot be placed is not worth the co-op: it is the fault of whoever
%% sent it.
-spec handle_datum(term(), coop_process:env(), #head{}) -> {[coop_process:out()], #head{}}.
handle_datum(Datum, Env, Head = #head{dataflow = Dataflow}) ->
    try coop_dataflow:route(Datum, Dataflow) of
        {Edges, Dataflow2} ->
            {[{Edge, Env, Datum} || Edge <- Edges], entered(Env, Head#head{dataflow = Dataflow2})}
    catch
        _:Reason -> {[{{lost, Reason}, Env, Datum}], Head}
    end.

entered(#{call := From}, Head = #head{calls = #{} = Calls}) ->
    Head#head{calls = Calls#{From => []}};
entered(_Env, Head) ->
    Head.

-spec handle_barrier(coop_process:barrier(), #head{}) -> {[], #head{}}.
handle_barrier(_Barrier, Head = #head{calls = undefined}) ->
    {[], Head};
handle_barrier({Caller, Ref}, Head = #head{flushes = Flushes}) ->
    {[], Head#head{flushes = Flushes#{Ref => {Caller, 0}}}}.

-spec handle_control(term(), coop_edges:edges(), #head{}) ->
    {ok, coop_edges:edges(), #head{}} | {stop, term(), #head{}} | unhandled.
handle_control({'$coop', attach, Pid, Theirs, Kind}, Edges, Head) when
    is_pid(Pid), Kind =:= relay orelse Kind =:= priority orelse Kind =:= edge
->
    #head{relays = Relays, next_edge = Edge, rule = Rule} = Head,
    case length([Pid || {Each, _, _} <- maps:values(Relays), Each =:= Pid]) of
        ?MAX_EDGES ->
            unhandled;
        _ ->
            Units = credit(Kind, Head),
            Monitor = monitor(process, Pid),
            Pid ! {'$coop', attached, Theirs, Edge, Units, Rule},
            {ok, coop_edges:add_in(Edge, Pid, Theirs, Units, Edges), Head#head{
                relays = Relays#{Monitor => {Pid, Kind, Edge}}, next_edge = Edge + 1
            }}
    end;
handle_control({'$coop', ask, N}, Edges, Head = #head{demand = {Ref, Demand}}) when
    is_integer(N), N > 0
->
    {ok, Edges, Head#head{demand = {Ref, coop_demand:ask(N, Demand)}}};
handle_control({'$coop', want, Node, Edge, N}, Edges, Head = #head{demand = {Ref, Demand}}) ->
    {ok, Edges, Head#head{demand = {Ref, coop_demand:want(Node, Edge, N, Demand)}}};
handle_control({'DOWN', Ref, process, _Pid, _}, Edges, Head = #head{demand = {Ref, Demand}}) ->
    %% what it is sent is gone at once
    {ok, Edges, Head#head{demand = {Ref, coop_demand:ask(infinity, Demand)}}};
handle_control({'DOWN', Ref, process, _Pid, Reason}, _Edges, Head = #head{parent = Ref}) ->
    {stop, Reason, Head};
handle_control({'DOWN', Ref, process, _Pid, Reason}, Edges, Head) ->
    case Head of
        #head{switches = #{Ref := _} = Switches} ->
            {stop, Reason, Head#head{switches = maps:remove(Ref, Switches)}};
        #head{relays = #{Ref := {_Relay, _Kind, Edge}} = Relays} ->
            {ok, coop_edges:drop_in(Edge, Edges), Head#head{relays = maps:remove(Ref, Relays)}}
    end;
handle_control({'$coop', replied, From}, Edges, Head = #head{calls = Calls}) ->
    {ok, Edges, Head#head{
        calls =
            case Calls of
                undefined -> undefined;
                #{} -> maps:remove(From, Calls)
            end
    }};
handle_control({'$coop', flushed, Ref, Total}, Edges, Head = #head{flushes = Flushes}) ->
    Flushes2 =
        case Flushes of
            #{Ref := {Caller, Marks}} when Marks + 1 < Total ->
                Flushes#{Ref := {Caller, Marks + 1}};
            #{} ->
                maps:remove(Ref, Flushes)
        end,
    {ok, Edges, Head#head{flushes = Flushes2}};
handle_control({'$coop', stop_entry, Switch}, Edges, Head = #head{calls = #{}}) when
    is_pid(Switch)
->
    Switch ! {'$coop', entry_stopped, self()},
    {ok, coop_edges:close(Edges), Head};
handle_control(
    {'$coop', wire, Switch, #{out := Out, nodes := Nodes, restarted := {_, #{}} = Restarted}},
    Edges,
    Head = #head{calls = #{}}
) when is_pid(Switch), length(Out) >= 0 ->
    Switch ! {'$coop', wired, self()},
    {ok, add_out(Out, Head#head.window, Edges), restarted(Restarted, Head#head{nodes = Nodes})};
handle_control(_Message, _Edges, _Head) ->
    unhandled.

%% Neither a call nor a flush is certain any more to have its answer.
restarted({Reason, Losses}, Head) ->
    #head{calls = Calls, flushes = Flushes, restarts = N, losses = Before} = Head,
    maps:foreach(
        fun(Ref, {Caller, _Marks}) -> Caller ! {'$coop', restarted, Ref, Reason} end, Flushes
    ),
    maps:foreach(fun(From, []) -> gen:reply(From, {'$coop', error, {restarted, Reason}}) end, Calls),
    Demand =
        case Head#head.demand of
            none -> none;
            {Monitor, Of} -> {Monitor, coop_demand:again(maps:get(delivered, Losses), Of)}
        end,
    Head#head{
        calls = #{},
        flushes = #{},
        restarts = N + 1,
        losses = coop_body:add(maps:remove(delivered, Losses), Before),
        demand = Demand
    }.

credit(relay, _Head) -> ?RELAY_CREDIT;
credit(priority, _Head) -> ?PRIORITY_CREDIT;
credit(edge, #head{window = Window}) -> Window.

-spec is_ours(reference(), #head{}) -> boolean().
is_ours(Ref, #head{demand = {Ref, _}}) ->
    true;
is_ours(Ref, #head{parent = Parent, switches = Switches, relays = Relays}) ->
    Ref =:= Parent orelse is_map_key(Ref, Switches) orelse is_map_key(Ref, Relays).

-spec info(#head{}) -> map().
info(Head = #head{name = Name, nodes = Nodes, edges = Edges, switches = Switches}) ->
    #head{relays = Relays, restarts = Restarts, losses = Losses} = Head,
    #head{instances = Instances, method = Method} = Head,
    Info = #{
        role => head,
        registered => Name,
        nodes => Nodes,
        edges => Edges,
        instances => Instances,
        dataflow => Method,
        switches => maps:values(Switches),
        home => node(),
        relays => length([Pid || {Pid, relay, _Edge} <- maps:values(Relays)]),
        restarts => Restarts,
        losses => Losses
    },
    case Head#head.demand of
        none -> Info;
        {_Ref, Demand} -> Info#{demand => coop_demand:describe(Demand)}
    end.

%% @doc Its own, and those whose change of code is the co-op's.
-spec modules(#head{}) -> [module()].
modules(#head{modules = Modules}) ->
    Modules.

-spec get_state(#head{}) -> map().
get_state(Head) ->
    info(Head).

-spec body_change(From :: {pid(), term()}, module(), OldVsn :: term(), Extra :: term()) -> ok.
body_change(From, Module, OldVsn, Extra) ->
    coop_upgrade:answer(From, self(), Module, OldVsn, Extra).

%% @doc Sees the body out: each switch ends with its nodes gone.
-spec terminate(term(), #head{}) -> ok.
terminate(Reason, #head{switches = Switches}) ->
    maps:foreach(
        fun(_Ref, Switch) ->
            unlink(Switch),
            exit(Switch, Reason)
        end,
        Switches
    ),
    maps:foreach(
        fun(Ref, _Switch) ->
            receive
                {'DOWN', Ref, process, _Pid, _Reason} -> ok
            end
        end,
        Switches
    ).
