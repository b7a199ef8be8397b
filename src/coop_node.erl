%% A co-op node on a VM: one Erlang task over its own state.
-module(coop_node).

-behaviour(coop_process).

-export([start_link/3]).
-export([spawn_node/2]).
-export([wire/2]).
%% in a task
-export([head/0]).
-export([start_late/1]).
-export([stop_late/1]).
-export([init/3]).
-export([handle_datum/3]).
-export([handle_barrier/2]).
-export([handle_control/3]).
-export([is_ours/2]).
-export([info/1]).
-export([modules/1]).
-export([get_state/1]).
-export([replace_state/2]).
-export([code_change/4]).
-export([terminate/2]).

%% What coop_body knows of a node once all processes exist.
-type wiring() :: #{
    head := pid(),
    last_tier := non_neg_integer(),
    in := [{coop_edges:edge(), pid()}],
    %% with how many data wait there already; of a router by `consume' to its
    %% workers
    out := [{coop_edges:edge(), Base :: atom(), coop_edges:process(), non_neg_integer()}],
    workers => coop_workers:workers(),
    %% of a node made late; its edges out are too, and each is behind one
    origin => coop_late:origin(),
    behind => #{coop_edges:edge() => coop_edges:edge()},
    window => pos_integer(),
    ledger := coop_ledger:ledger() | undefined,
    %% what waited at this node's predecessor
    held := [term()]
}.
-export_type([wiring/0]).

-define(HERE, '$coop_node').
%% what the task has started and stopped in this call, newest first
-define(LATE, '$coop_late').

-record(node, {
    name :: atom(),
    task :: fun((term(), term()) -> term()) | {module(), atom()},
    flush :: undefined | fun((term()) -> term()),
    state :: term(),
    dataflow :: coop_dataflow:dataflow() | last_tier,
    targets :: #{atom() => coop_edges:edge()},
    receiver :: coop_receiver:receiver()
}).

%% @doc Starts the process and runs the task's init, but takes no data before
%% {@link wire/2}. `Parent' is the caller's monitor of the co-op's parent, without
%% which there is nobody left to start for.
-spec start_link(map(), map(), reference()) -> {ok, pid()} | {error, term()}.
start_link(Node = #{name := Name}, Spec, Parent) ->
    Pid = spawn_node(Node, Spec),
    receive
        {'$coop', initialized, Pid, ok} -> {ok, Pid};
        {'$coop', initialized, Pid, {error, Reason}} -> {error, {init, Name, Reason}};
        %% killed in its init; the caller traps exits
        {'EXIT', Pid, Reason} -> {error, {init, Name, Reason}};
        {'DOWN', Parent, process, _, Reason} -> {error, Reason}
    end.

%% @doc The same without waiting for the init: the caller hears
%% `{'$coop', initialized, Pid, ok | {error, Reason}}'.
-spec spawn_node(map(), map()) -> pid().
spawn_node(Node, Spec) ->
    proc_lib:spawn_link(?MODULE, init, [self(), Node, maps:without([nodes, edges], Spec)]).

-spec wire(pid(), wiring()) -> ok.
wire(Pid, Wiring) ->
    Pid ! {'$coop', wire, self(), Wiring},
    ok.

-spec init(pid(), map(), map()) -> no_return().
init(Switch, Node = #{init := Init}, Spec) ->
    try initial_state(Init) of
        State ->
            Switch ! {'$coop', initialized, self(), ok},
            receive
                {'$coop', wire, Switch, Wiring} -> run(Switch, Node, State, Spec, Wiring);
                {'$coop', stop, Reason} -> exit(Reason)
            end
    catch
        Class:Reason:Stack ->
            Switch ! {'$coop', initialized, self(), {error, reason(Class, Reason, Stack)}}
    end.

initial_state(undefined) -> undefined;
initial_state({Module, Function, Args}) -> apply(Module, Function, Args);
initial_state(Fun) -> Fun().

reason(error, Reason, Stack) -> {Reason, Stack};
reason(exit, Reason, _Stack) -> Reason;
reason(throw, Reason, Stack) -> {{nocatch, Reason}, Stack}.

run(Switch, Node, State, Spec, Wiring) ->
    #{head := Head, in := In, out := Out, last_tier := LastTier} = Wiring,
    #{name := Name, task := Task, flush := Flush, dataflow := Method} = Node,
    #{receiver := To, tag := Tag, batch := Batch} = Spec,
    Window = maps:get(window, Wiring, maps:get(window, Spec)),
    Edges1 = lists:foldl(
        fun({Edge, Pid}, Acc) -> coop_edges:add_in(Edge, Pid, Edge, Window, Acc) end,
        coop_edges:new(),
        In
    ),
    Edges2 = lists:foldl(
        fun
            ({Edge, _Name, workers, _}, Acc) ->
                Credit = coop_workers:credit(maps:get(workers, Wiring)),
                coop_edges:add_out(Edge, workers, Credit, Acc);
            ({Edge, _Name, Pid, Waiting}, Acc) ->
                coop_edges:add_out(Edge, Pid, Window - Waiting, Acc)
        end,
        Edges1,
        Out
    ),
    Behind = maps:get(behind, Wiring, #{}),
    lists:foreach(
        fun({Edge, _Name, Pid, _}) ->
            is_map_key(Edge, Behind) andalso
                (Pid ! {'$coop', join, self(), Edge, maps:get(Edge, Behind), Window})
        end,
        Out
    ),
    put(?HERE, #{
        switch => Switch,
        head => Head,
        restart => maps:get(restart, Spec),
        out => [{maps:get(Edge, Behind, Edge), Downstream, Pid} || {Edge, Downstream, Pid, _} <- Out]
    }),
    {Sink, Receiver, Edges3} =
        case Out of
            [] -> coop_receiver:attach(To, Window, Batch, Edges2);
            _ -> {none, coop_receiver:none(), Edges2}
        end,
    Switch ! {'$coop', wired, self()},
    coop_process:enter_loop(?MODULE, #{
        name => Name,
        parent => Switch,
        head => Head,
        ledger => maps:get(ledger, Wiring),
        held => maps:get(held, Wiring),
        edges => Edges3,
        late => late(Wiring, Out),
        results => coop_results:set_sink(Sink, coop_results:new(Head, Tag, Batch)),
        last_tier => LastTier,
        dead_letter => maps:get(dead_letter, Spec),
        max_queue => maps:get(max_queue, Spec),
        max_queue_bytes => maps:get(max_queue_bytes, Spec),
        state => #node{
            name = Name,
            task = Task,
            flush = Flush,
            state = State,
            dataflow = dataflow(Method, Out),
            targets = maps:from_list([{Downstream, Edge} || {Edge, Downstream, _Pid, _Waiting} <- Out]),
            receiver = Receiver
        }
    }).

late(#{workers := Workers}, [{Edge, _, workers, _}]) -> coop_late:new(none, {Edge, Workers});
late(#{origin := Origin, in := []}, _Out) -> coop_late:new({worker, Origin}, none);
late(#{origin := Origin}, _Out) -> coop_late:new(Origin, none);
late(_Wiring, _Out) -> none.

dataflow(_Method, []) -> last_tier;
dataflow(Method, Out) -> coop_dataflow:new(Method, [{[Edge], Name} || {Edge, Name, _, _} <- Out]).

%%% The task

-spec handle_datum(term(), coop_process:env(), #node{}) -> {[coop_process:out()], #node{}}.
handle_datum(Datum, Env, Node = #node{task = {Module, Function}, state = State}) ->
    with_late(Module:Function(State, Datum), Env, Node);
handle_datum(Datum, Env, Node = #node{task = Task, state = State}) ->
    with_late(Task(State, Datum), Env, Node).

-spec handle_barrier(coop_process:barrier() | last, #node{}) ->
    {[coop_process:out()], #node{}}.
handle_barrier({_Caller, {hold, _}}, Node) ->
    %% a change of code, which ends nothing
    {[], Node};
handle_barrier(_Barrier, Node = #node{flush = undefined}) ->
    {[], Node};
handle_barrier(_Barrier, Node = #node{flush = Flush, state = State}) ->
    with_late(Flush(State), [], Node).

%% What the task has started is there before its results, and stopped after them.
with_late(Return, Env, Node) ->
    case erase(?LATE) of
        undefined ->
            results(Return, Env, Node);
        Late ->
            {Outs, Node2} = results(Return, Env, Node),
            {Starts, Stops} = lists:partition(
                fun(What) -> element(1, What) =:= start end, lists:reverse(Late)
            ),
            {Starts ++ Outs ++ Stops, Node2}
    end.

results({State, Result}, Env, Node) ->
    route(Result, Env, Node#node{state = State});
results({State}, _Env, Node) ->
    {[], Node#node{state = State}};
results({State, many, Results}, Env, Node) when is_list(Results) ->
    {Outs, Node2} = lists:mapfoldl(
        fun(Result, Acc) -> route(Result, Env, Acc) end, Node#node{state = State}, Results
    ),
    {lists:append(Outs), Node2};
results({State, to, Named}, Env, Node) when is_list(Named) ->
    Outs = [{edge_to(Target, Node), Env, Result} || {Target, Result} <- Named],
    {Outs, Node#node{state = State}};
results(Other, _Env, _Node) ->
    error({bad_return_value, Other}).

edge_to(Pid, _Node) when is_pid(Pid) ->
    {late, Pid};
edge_to(Name, #node{targets = Targets}) when is_map_key(Name, Targets) ->
    maps:get(Name, Targets);
edge_to(Other, _Node) ->
    error({not_downstream, Other}).

route(Result, Env, Node = #node{dataflow = last_tier}) ->
    {[{result, Env, Result}], Node};
route(Result, Env, Node = #node{dataflow = Dataflow}) ->
    {Edges, Dataflow2} = coop_dataflow:route(Result, Dataflow),
    {[{Edge, Env, Result} || Edge <- Edges], Node#node{dataflow = Dataflow2}}.

%%% In a task: what the process knows of itself is in its dictionary, as it is
%%% with proc_lib, since a task is an ordinary function

-spec head() -> pid().
head() ->
    maps:get(head, here()).

-spec start_late(coop_flow:node_spec()) -> {ok, pid()} | {error, term()}.
start_late(NodeSpec) ->
    #{switch := Switch, restart := Restart, out := Out} = here(),
    case {Restart, esp_config:late_node(NodeSpec)} of
        {none, _} when Out =/= [], element(3, hd(Out)) =:= workers ->
            {error, {unsupported, consume}};
        {none, {ok, Node}} ->
            case coop_process:ask(Switch, {start_node, Node, Out}, infinity) of
                {ok, Pid, Edge, Window} ->
                    note({start, Edge, Pid, Window}),
                    {ok, Pid};
                {error, _} = Error ->
                    Error
            end;
        {none, {error, _} = Error} ->
            Error;
        _ ->
            {error, {unsupported, restart}}
    end.

-spec stop_late(pid()) -> ok.
stop_late(Pid) ->
    _ = here(),
    note({stop, Pid}).

note(What) ->
    Late =
        case get(?LATE) of
            undefined -> [];
            Before -> Before
        end,
    put(?LATE, [What | Late]),
    ok.

here() ->
    case get(?HERE) of
        undefined -> error(not_a_task);
        Here -> Here
    end.

%%% Control and manners

-spec handle_control(term(), coop_edges:edges(), #node{}) ->
    {sink, coop_results:sink(), coop_edges:edges(), #node{}}
    | {stop, term(), #node{}}
    | unhandled.
handle_control({'$coop', stop, Reason}, _Edges, Node) ->
    {stop, Reason, Node};
handle_control(Message, Edges, Node = #node{receiver = Receiver}) ->
    case coop_receiver:handle(Message, Edges, Receiver) of
        {sink, Sink, Edges2, Receiver2} ->
            {sink, Sink, Edges2, Node#node{receiver = Receiver2}};
        unhandled ->
            unhandled
    end.

-spec is_ours(reference(), #node{}) -> boolean().
is_ours(Ref, #node{receiver = Receiver}) ->
    coop_receiver:is_ours(Ref, Receiver).

-spec info(#node{}) -> map().
info(#node{receiver = Receiver}) ->
    maps:merge(#{role => node}, coop_receiver:info(Receiver)).

-spec modules(#node{}) -> [module()].
modules(#node{task = {Module, _Function}}) ->
    [Module];
modules(#node{task = Fun}) ->
    {module, Module} = erlang:fun_info(Fun, module),
    [Module].

-spec get_state(#node{}) -> term().
get_state(#node{state = State}) ->
    State.

-spec replace_state(fun((term()) -> term()), #node{}) -> {term(), #node{}}.
replace_state(Fun, Node = #node{state = State}) ->
    State2 = Fun(State),
    {State2, Node#node{state = State2}}.

%% @doc The task's module may have a `code_change/3', as a gen_server's has.
-spec code_change(module(), term(), term(), #node{}) -> {ok, #node{}} | {error, term()}.
code_change(Module, OldVsn, Extra, Node = #node{state = State}) ->
    case erlang:function_exported(Module, code_change, 3) of
        true ->
            case Module:code_change(OldVsn, State, Extra) of
                {ok, State2} -> {ok, Node#node{state = State2}};
                Other -> {error, Other}
            end;
        false ->
            {ok, Node}
    end.

-spec terminate(term(), #node{}) -> ok.
terminate(_Reason, _Node) ->
    ok.
