%% The kill switch of a co-op on this VM: it starts the co-op, and takes it down.
%% It is linked to the nodes here, to the head and to the kill switch on the
%% C-node, if there is one. When one of them ends, the nodes end with the same
%% reason, and when all of them are gone, so does the switch.
%%
%% A switch traps exits, so it cannot tell a signal from a plain 'EXIT' message
%% by looking at it. But a link is gone once its exit signal has come: what names
%% a process that is still linked, or was never, is dropped, as a supervisor
%% ignores it. From the head and the other switch an exit signal without the end
%% of its sender is an order, and obeyed.
-module(coop_kill_switch).

-behaviour(coop_process).

-export([start/3]).
-export([init/3]).
-export([handle_datum/3]).
-export([handle_barrier/2]).
-export([handle_control/3]).
-export([is_ours/2]).
-export([info/1]).
-export([get_state/1]).
-export([terminate/2]).

%% For a node that neither dies of the reason nor finishes what it is at.
-define(GRACE, 1_000).

%% Numbers of edges made late; a C-node has those below. Those of workers are used
%% up, in time, and begin anew; those of nodes that stay must not meet them.
-define(WORKER_EDGES, (1 bsl 31)).
-define(STARTED_EDGES, (3 bsl 30)).
-define(LAST_EDGE, (1 bsl 32 - 2)).

%% Not initialised yet, with what is to follow; at work; not to be.
-type late() ::
    {worker, coop_flow:name()}
    | {started, coop_flow:name(), From :: term(), Maker :: pid(), Out :: [coop_body:target()]}
    | {wiring, From :: term(), Answer :: term()}
    | running
    | withdrawn.
%% For a process that says at once how many data it has.
-define(SOON, 50).

-record(switch, {
    key :: term(),
    body :: coop_body:body(),
    %% nodes that live
    nodes :: #{pid() => atom()},
    %% of those made late
    late :: #{pid() => late()},
    worker_edge = ?WORKER_EDGES :: coop_edges:edge(),
    started_edge = ?STARTED_EDGES :: coop_edges:edge(),
    %% when the body was restarted, within the period
    restarts = [] :: [integer()],
    %% what nodes that crashed, and the C-node's switch, have said is inside
    inside = #{} :: #{pid() => non_neg_integer()}
}).

%% @doc Starts a co-op that has nodes on this VM; its head is linked to `Parent'
%% before this returns. On an error all that was started is gone again.
-spec start(coop_body:spec(), pid(), node() | undefined) -> {ok, pid()} | {error, term()}.
start(Spec, Parent, CNode) ->
    {Result, Monitor} = proc_lib:start_monitor(?MODULE, init, [Spec, Parent, CNode]),
    case Result of
        {ok, _Head} ->
            demonitor(Monitor, [flush]),
            Result;
        {error, _} ->
            receive
                {'DOWN', Monitor, process, _, _} -> Result
            end
    end.

-spec init(coop_body:spec(), pid(), node() | undefined) -> no_return() | ok.
init(Spec, Parent, CNode) ->
    process_flag(trap_exit, true),
    case coop_body:start(Spec, Parent, CNode) of
        {ok, Body = #{head := Head}} ->
            Key = coop_body:key(Parent, Spec),
            coop_names:started(Key, self(), Head),
            proc_lib:init_ack({ok, Head}),
            coop_process:enter_loop(?MODULE, #{
                name => kill_switch,
                parent => Head,
                head => Head,
                edges => coop_edges:new(),
                state => wire_workers(#switch{
                    key = Key,
                    body = Body,
                    nodes = by_pid(Body),
                    late = maps:from_list([
                        {Pid, {worker, Name}}
                     || {Name, Pids} <- coop_body:workers(Body), Pid <- Pids
                    ])
                })
            });
        {error, Reason, Native} ->
            {links, Links} = process_info(self(), links),
            end_all(lists:usort([Pid || Pid <- Links, is_pid(Pid)] ++ Native), shutdown),
            proc_lib:init_ack({error, Reason})
    end.

by_pid(#{nodes := Nodes}) ->
    maps:from_list([{Pid, Name} || {Name, Pid} <- Nodes]).

%% Everything that is not control is data, and a kill switch has no use for it.
-spec handle_datum(term(), coop_process:env(), #switch{}) -> {[], #switch{}}.
handle_datum(Datum, _Env, Switch) ->
    coop_process:log_unexpected(kill_switch, Datum),
    {[], Switch}.

-spec handle_barrier(coop_process:barrier(), #switch{}) -> {[], #switch{}}.
handle_barrier(_Barrier, Switch) ->
    {[], Switch}.

-spec handle_control(term(), coop_edges:edges(), #switch{}) ->
    {ok, coop_edges:edges(), #switch{}} | {stop, term(), #switch{}} | unhandled.
handle_control({'EXIT', Pid, Reason}, Edges, Switch) ->
    #switch{body = #{head := Head, other := Other}, nodes = Nodes} = Switch,
    if
        Pid =:= Head; Pid =:= Other -> {stop, Reason, Switch};
        is_map_key(Pid, Switch#switch.late) -> late_exit(Pid, Reason, Edges, Switch);
        is_map_key(Pid, Nodes) -> node_exit(Pid, Reason, Edges, Switch);
        true -> unhandled
    end;
handle_control({'$coop', fell, Pid, Reason}, Edges, Switch) ->
    #switch{body = #{other := Other}, nodes = Nodes} = Switch,
    case Pid =:= Other orelse is_map_key(Pid, Nodes) of
        true -> body_fell(Reason, Edges, Switch);
        false -> unhandled
    end;
handle_control({'$coop', inside, Pid, N}, Edges, Switch) when is_integer(N), N >= 0 ->
    #switch{body = #{other := Other}, nodes = Nodes, late = Late, inside = Inside} = Switch,
    case Pid =:= Other orelse is_map_key(Pid, Nodes) orelse is_map_key(Pid, Late) of
        true -> {ok, Edges, Switch#switch{inside = Inside#{Pid => N}}};
        false -> unhandled
    end;
handle_control({'$coop', more, Router, Edge}, Edges, Switch) when is_pid(Router) ->
    {ok, Edges, more_workers(Router, Edge, Switch)};
handle_control({'$coop', mark, Caller, {'$coop', flushed, _, _} = Mark}, Edges, Switch) when
    is_pid(Caller)
->
    Caller ! Mark,
    {ok, Edges, Switch};
handle_control(
    {'$coop', {Maker, _} = From, {start_node, Node, Out}},
    Edges,
    Switch = #switch{nodes = Nodes, late = Late}
) when
    is_map_key(Maker, Nodes) orelse is_map_key(Maker, Late), is_map(Node), is_list(Out)
->
    #switch{body = #{spec := Spec}} = Switch,
    Pid = coop_node:spawn_node(Node, Spec),
    Started = {started, maps:get(name, Node), From, Maker, Out},
    {ok, Edges, Switch#switch{late = Late#{Pid => Started}}};
handle_control({'$coop', initialized, Pid, Result}, Edges, Switch = #switch{late = Late}) ->
    initialized(maps:get(Pid, Late, unknown), Result, Pid, Edges, Switch);
%% of a node made again nobody waits for it
handle_control({'$coop', wired, Pid}, Edges, Switch = #switch{late = Late}) ->
    case Late of
        #{Pid := {wiring, From, Answer}} ->
            gen:reply(From, Answer),
            {ok, Edges, Switch#switch{late = Late#{Pid := running}}};
        #{} ->
            {ok, Edges, Switch}
    end;
handle_control({'$coop', {Pid, _Tag} = From, {changes, Modules}}, Edges, Switch) when
    is_pid(Pid), length(Modules) >= 0
->
    gen:reply(From, {vm, changing(Modules, Switch)}),
    {ok, Edges, Switch};
handle_control(_Message, _Edges, _Switch) ->
    unhandled.

%% Who may have a state to change: each knows its task's module.
changing(Modules, #switch{nodes = Nodes, late = Late}) ->
    IsChanging = fun(M) -> is_atom(M) andalso erlang:function_exported(M, code_change, 3) end,
    case lists:any(IsChanging, Modules) of
        true ->
            [{Name, Pid} || {Pid, Name} <- maps:to_list(Nodes)] ++
                [{late, Pid} || {Pid, running} <- maps:to_list(Late)];
        false ->
            []
    end.

%%% Nodes made late

%% Those that the co-op starts with.
wire_workers(Switch = #switch{late = Late}) ->
    lists:foldl(fun wire_worker/2, Switch, maps:keys(Late)).

wire_worker(Pid, Switch = #switch{body = Body, late = Late}) ->
    #{Pid := {worker, Name}} = Late,
    {Out, Switch2} = late_edges(coop_body:out_of(Name, Body), fun worker_edge/1, Switch),
    coop_node:wire(Pid, coop_body:worker_wiring(Name, Out, Body)),
    Switch2#switch{late = Late#{Pid := running}}.

%% Each has a number of its own, and is behind the one that leads there.
late_edges(Out, Next, Switch) ->
    lists:mapfoldl(
        fun({Behind, To, Pid}, Acc) ->
            {Edge, Acc2} = Next(Acc),
            {{Edge, Behind, To, Pid}, Acc2}
        end,
        Switch,
        Out
    ).

worker_edge(Switch = #switch{worker_edge = ?STARTED_EDGES}) ->
    worker_edge(Switch#switch{worker_edge = ?WORKER_EDGES});
worker_edge(Switch = #switch{worker_edge = Edge}) ->
    {Edge, Switch#switch{worker_edge = Edge + 1}}.

started_edge(Switch = #switch{started_edge = ?LAST_EDGE}) ->
    started_edge(Switch#switch{started_edge = ?STARTED_EDGES});
started_edge(Switch = #switch{started_edge = Edge}) ->
    {Edge, Switch#switch{started_edge = Edge + 1}}.

%% They take data as soon as each is initialised.
more_workers(Router, Edge, Switch = #switch{body = Body, late = Late}) ->
    #{spec := Spec} = Body,
    case coop_body:slab(Router, Edge, Body) of
        {ok, Node = #{name := Name}, N} ->
            Pids = [coop_node:spawn_node(Node, Spec) || _ <- lists:seq(1, N)],
            Router ! {'$coop', fresh, Edge, Pids},
            Switch#switch{
                late = maps:merge(Late, maps:from_list([{Pid, {worker, Name}} || Pid <- Pids]))
            };
        error ->
            Switch
    end.

initialized({worker, _Name}, ok, Pid, Edges, Switch) ->
    {ok, Edges, wire_worker(Pid, Switch)};
initialized({worker, Name}, {error, Reason}, _Pid, _Edges, Switch) ->
    {stop, {init, Name, Reason}, Switch};
initialized({started, _Name, From, Maker, Out0}, ok, Pid, Edges, Switch) ->
    #switch{late = Late, body = Body = #{spec := #{window := Window}}} = Switch,
    {Edge, Switch2} = started_edge(Switch),
    {Out, Switch3} = late_edges(Out0, fun started_edge/1, Switch2),
    coop_node:wire(Pid, coop_body:late_wiring({Maker, Edge}, Out, Body)),
    Answer = {ok, Pid, Edge, Window},
    {ok, Edges, Switch3#switch{late = Late#{Pid := {wiring, From, Answer}}}};
initialized({started, Name, From, _, _}, {error, Reason}, Pid, Edges, Switch) ->
    gen:reply(From, {error, {init, Name, Reason}}),
    {ok, Edges, Switch#switch{late = (Switch#switch.late)#{Pid := withdrawn}}};
initialized(_, _Result, _Pid, _Edges, _Switch) ->
    unhandled.

%% With `normal' it has said good-bye, unless it was killed in its init.
late_exit(Pid, Reason, Edges, Switch = #switch{late = Late}) ->
    %% there are many of them, and looking at all links each time would be slow
    case {is_process_alive(Pid), maps:get(Pid, Late)} of
        {true, _} ->
            unhandled;
        {false, State} when State =:= withdrawn; Reason =:= normal, State =:= running ->
            {ok, Edges, Switch#switch{late = maps:remove(Pid, Late)}};
        {false, {started, Name, From, _, _}} ->
            gen:reply(From, {error, {init, Name, Reason}}),
            {ok, Edges, Switch#switch{late = maps:remove(Pid, Late)}};
        {false, _} ->
            {stop, Reason, Switch#switch{late = maps:remove(Pid, Late)}}
    end.

node_exit(Pid, Reason, Edges, Switch = #switch{nodes = Nodes}) ->
    {links, Links} = process_info(self(), links),
    case lists:member(Pid, Links) of
        true -> unhandled;
        false -> body_fell(Reason, Edges, Switch#switch{nodes = maps:remove(Pid, Nodes)})
    end.

body_fell(Reason, Edges, Switch = #switch{body = Body, nodes = Nodes, restarts = Restarts}) ->
    case coop_restart:restart(Reason, Body, maps:keys(Nodes), Restarts) of
        {ok, Body2, Restarts2} ->
            {ok, Edges, Switch#switch{
                body = Body2, nodes = by_pid(Body2), restarts = Restarts2, inside = #{}
            }};
        {stop, Why} ->
            {stop, Why, Switch}
    end.

-spec is_ours(reference(), #switch{}) -> false.
is_ours(_Ref, _Switch) ->
    false.

-spec info(#switch{}) -> map().
info(#switch{nodes = Nodes, late = Late}) ->
    #{role => kill_switch, nodes => maps:values(Nodes), late => map_size(Late)}.

-spec get_state(#switch{}) -> map().
get_state(Switch) ->
    info(Switch).

%% @doc Does not return: the switch dies of the reason as by a signal, since the
%% crash report is that of the process whose end this is.
-spec terminate(term(), #switch{}) -> no_return().
terminate(Reason, Switch = #switch{key = Key, body = #{head := Head, other := Other}}) ->
    Inside = inside(Reason, Switch),
    {links, Links} = process_info(self(), links),
    end_all(lists:usort([Other || is_pid(Other)] ++ [Pid || Pid <- Links, Pid =/= Head]), Reason),
    coop_names:ended(Key, self(), Head),
    report(Reason, Inside, Switch),
    process_flag(trap_exit, false),
    Reason =:= normal orelse Reason =:= kill orelse exit(self(), Reason),
    exit(Reason).

%%% What goes with a co-op that ends for a reason that is an error

is_orderly(normal) -> true;
is_orderly(shutdown) -> true;
is_orderly({shutdown, _}) -> true;
is_orderly(_) -> false.

%% Of those here, as far as they say so at once: who works at a datum does not,
%% and is not waited for.
inside(Reason, #switch{body = #{head := Head}, nodes = Nodes, inside = Known}) ->
    case is_orderly(Reason) of
        true ->
            #{};
        false ->
            Asked = [
                {Pid, gen:send_request(Pid, '$coop', inside)}
             || Pid <- [Head || node(Head) =:= node()] ++ maps:keys(Nodes),
                not is_map_key(Pid, Known),
                process_info(Pid, current_function) =:=
                    {current_function, {coop_process, await, 1}}
            ],
            Deadline = erlang:monotonic_time(millisecond) + ?SOON,
            maps:merge(Known, maps:from_list([{Pid, answer(R, Deadline)} || {Pid, R} <- Asked]))
    end.

answer(Request, Deadline) ->
    case gen:wait_response(Request, max(0, Deadline - erlang:monotonic_time(millisecond))) of
        {reply, N} -> N;
        _ -> 0
    end.

%% The C-node's switch has said its part before it ended.
report(Reason, Inside, Switch = #switch{body = Body = #{other := Other}}) ->
    receive
        {'$coop', inside, Other, N} when is_integer(N) ->
            report(Reason, Inside#{Other => N}, Switch)
    after 0 ->
        #{head := Head, spec := #{name := Name}} = Body,
        is_orderly(Reason) orelse
            logger:error(#{
                label => {coop, terminated},
                name => Name,
                head => Head,
                reason => Reason,
                data => {at_least, lists:sum(maps:values(Inside))}
            })
    end,
    ok.

%% Ends processes with a reason and waits until they are gone. `normal' is the
%% one reason that a signal does not carry, so nodes are told.
end_all(Pids, Reason) ->
    Monitors = maps:from_list([{monitor(process, Pid), Pid} || Pid <- Pids]),
    lists:foreach(
        fun(Pid) ->
            Reason =:= normal andalso (Pid ! {'$coop', stop, normal}),
            exit(Pid, Reason)
        end,
        Pids
    ),
    await_end(Monitors, erlang:start_timer(?GRACE, self(), grace)).

await_end(Monitors, Timer) when map_size(Monitors) =:= 0 ->
    _ = erlang:cancel_timer(Timer),
    ok;
await_end(Monitors, Timer) ->
    receive
        {'DOWN', Ref, process, _, _} ->
            await_end(maps:remove(Ref, Monitors), Timer);
        {timeout, Timer, grace} ->
            lists:foreach(
                fun(Pid) -> exit(Pid, kill) end,
                [Pid || Pid <- maps:values(Monitors), node(Pid) =:= node()]
            ),
            await_end(Monitors, Timer);
        %% or the exits of many would be walked over for each that is waited for
        {'EXIT', _, _} ->
            await_end(Monitors, Timer)
    end.
