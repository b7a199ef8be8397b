%% What a supervisor sees: the same cases over a gen_server on another VM and
%% over co-ops, native and mixed. Only where the names of groups say so is
%% anything expected of one kind alone.
-module(supervision_SUITE).

-export([all/0, suite/0, groups/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([init_per_group/2, end_per_group/2]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, take/1, mailbox/0, down/1]).

-define(C_NODE, t_supervision).
-define(LIMIT, 10_000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, G} || G <- [server_on_a_peer, native_coop, native_entry, erlang_entry, loss]].

groups() ->
    Cases = cases(),
    [
        {server_on_a_peer, [], Cases},
        {native_coop, [], Cases ++ of_coops()},
        {native_entry, [], Cases ++ of_coops()},
        {erlang_entry, [], Cases ++ of_coops()},
        {loss, [], [
            the_loss_of_a_peer_ends_the_child_with_noconnection,
            the_loss_of_the_c_node_ends_the_child_with_noconnection,
            a_restart_waits_for_the_c_node_and_costs_one,
            rest_for_one_brings_everything_back,
            a_start_gives_up_in_time
        ]}
    ].

cases() ->
    [
        the_child_is_linked_before_ok,
        which_children_tells_of_it,
        terminate_child_ends_it_with_shutdown,
        brutal_kill_ends_it_with_killed,
        who_is_blocked_hears_of_shutdown,
        who_does_not_end_in_time_is_killed,
        who_is_busy_may_take_its_time,
        an_exit_signal_restarts_a_permanent_child,
        exit_with_normal_is_ignored,
        a_transient_child_comes_back_after_abnormal_ends_only,
        a_temporary_child_never_comes_back,
        its_own_exit_is_the_reason,
        intensity_is_reached,
        children_stop_in_reverse_order,
        one_for_all_restarts_all,
        rest_for_one_restarts_the_rest,
        children_can_be_terminated_restarted_deleted,
        simple_one_for_one_children_are_alike,
        a_killed_supervisor_takes_its_child_along,
        a_supervisor_ends_its_child_with_shutdown,
        a_start_that_fails_fails_the_supervisor,
        a_restart_that_fails_is_tried_again
    ].

%% A gen_server has one process, and notices no `normal' end of a remote parent.
of_coops() ->
    [
        the_end_of_any_process_restarts_the_whole,
        a_parents_normal_end_ends_it,
        nothing_is_left_of_it
    ].

init_per_suite(Config) ->
    [{c_node, esp_test_c_node:start(?C_NODE)} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

init_per_group(server_on_a_peer, Config) ->
    {_, Node} = Peer = esp_test_c_node:start_peer(supervised),
    Start = fun(Name) -> {?MODULE, start_server, [Node, {self(), Name}]} end,
    Fails = {?MODULE, start_server, [Node, fail]},
    [{peer, Peer}, {start, Start}, {fails, Fails}, {home, Node} | Config];
init_per_group(loss, Config) ->
    Config;
init_per_group(Group, Config) ->
    Start = fun(Name) -> {coop, start_link, [template(Group, {self(), Name}), opts()]} end,
    Fails = {coop, start_link, [template(Group, fail), opts()]},
    [{start, Start}, {fails, Fails}, {home, esp_node:node(?C_NODE)} | Config].

end_per_group(server_on_a_peer, Config) ->
    esp_test_c_node:stop_peer(proplists:get_value(peer, Config));
end_per_group(_, _) ->
    ok.

%%% Children

opts() -> #{node => ?C_NODE}.

%% The process under the test's eyes is the native `life'.
life(fail) -> coop:native(life, lives, life, #{args => fail});
life(Args) -> coop:native(life, lives, life, #{args => Args}).

pass(Name) -> coop:task(Name, fun(S, D) -> {S, D} end, #{}).

template(native_coop, Args) ->
    coop_flow:pipeline([life(Args), coop:native(b, sums, same, #{})]);
template(native_entry, Args) ->
    coop_flow:pipeline([life(Args), pass(b)]);
template(erlang_entry, Args) ->
    coop_flow:pipeline([pass(a), life(Args)]).

%% The child as a gen_server on a peer, started as a co-op is: the caller is its
%% parent, and linked to it from the first.
start_server(Node, Args) ->
    Pid = proc_lib:spawn_link(Node, ?MODULE, server, [self(), Args]),
    receive
        {ack, Pid, Result} -> Result;
        {'EXIT', Pid, Reason} -> {error, Reason}
    end.

server(_Parent, fail) ->
    exit(failed);
server(Parent, {To, Name}) ->
    To ! {init, Name, self()},
    Parent ! {ack, self(), {ok, self()}},
    gen_server:enter_loop(?MODULE, [], {To, Name}).

%% It does not trap exits, so terminate/2 is not called from outside.
handle_info({exit, Reason}, _) ->
    exit(Reason);
handle_info({busy, Ms}, {To, Name} = S) ->
    %% A remote gen_server is only late to end if it traps.
    process_flag(trap_exit, true),
    To ! {busy, Name, self()},
    timer:sleep(Ms),
    {noreply, S};
handle_info({block, _}, {To, Name}) ->
    To ! {blocked, Name, self()},
    timer:sleep(infinity);
handle_info(_, S) ->
    {noreply, S}.

handle_call(_, _, S) -> {reply, ok, S}.
handle_cast(_, S) -> {noreply, S}.
terminate(_, _) -> ok.
code_change(_OldVsn, S, _Extra) -> {ok, S}.

child(Config, Name) -> child(Config, Name, #{}).
child(Config, Name, More) ->
    Start = proplists:get_value(start, Config),
    maps:merge(#{id => Name, start => Start(Name), modules => dynamic}, More).

%% Run by a process of its own, so that its end is a message and no more.
supervisor(Flags, Children) ->
    Self = self(),
    {Owner, Ref} = spawn_monitor(fun() ->
        process_flag(trap_exit, true),
        case supervisor:start_link(esp_test_sup, {Flags, Children}) of
            {ok, Sup} ->
                Self ! {sup, self(), Sup},
                receive
                    {'EXIT', Sup, Reason} -> exit({sup, Reason});
                    {stop, How} -> exit(How)
                end;
            {error, Reason} ->
                exit({not_started, Reason})
        end
    end),
    receive
        {sup, Owner, Sup} -> {Owner, Sup};
        {'DOWN', Ref, process, _, Reason} -> {error, Reason}
    end.

stop({Owner, Sup}) ->
    Ref = monitor(process, Sup),
    Owner ! {stop, shutdown},
    shutdown = down(Ref),
    _ = mailbox(),
    ok.

%% One child, its supervisor, what to do with them.
with_child(Config, More, Flags, Fun) ->
    {_, Sup} = Both = supervisor(Flags, [child(Config, x, More)]),
    await(init, x),
    Fun(Sup, pid(Sup, x)),
    stop(Both).

pid(Sup, Id) ->
    {Id, Pid, _, _} = lists:keyfind(Id, 1, supervisor:which_children(Sup)),
    Pid.

await(What, Name) ->
    receive
        {What, Name, Pid} -> Pid
    after ?LIMIT -> ct:fail({waited_in_vain_for, What, Name, mailbox()})
    end.

%% The supervisor has seen it down when it answers; our own news of that may
%% still be on its way, since nothing orders the two.
terminated(Sup, Pid) ->
    Ref = monitor(process, Pid),
    ok = supervisor:terminate_child(Sup, x),
    down(Ref).

%% A datum for the process that does what it is told: in a pipeline with an
%% Erlang entry it comes by way of that.
tell(Pid, Datum) ->
    Pid ! Datum,
    ok.

%%% Cases

the_child_is_linked_before_ok(Config) ->
    process_flag(trap_exit, true),
    #{start := {M, F, A}} = child(Config, x),
    {ok, Pid} = apply(M, F, A),
    {links, Links} = process_info(self(), links),
    true = lists:member(Pid, Links),
    %% and is the one thing elsewhere that we are linked to
    [] = [L || L <- Links, is_pid(L), node(L) =/= node(), L =/= Pid],
    exit(Pid, kill),
    await_exit(Pid, killed).

await_exit(Pid, Reason) ->
    receive
        {'EXIT', Pid, Got} -> {Reason, Reason} = {Reason, Got}
    after ?LIMIT -> ct:fail({no_exit, Pid})
    end,
    ok.

which_children_tells_of_it(Config) ->
    with_child(Config, #{}, #{}, fun(Sup, Pid) ->
        [{x, Pid, worker, dynamic}] = supervisor:which_children(Sup),
        {ok, #{id := x}} = supervisor:get_childspec(Sup, x)
    end).

terminate_child_ends_it_with_shutdown(Config) ->
    with_child(Config, #{shutdown => 5000}, #{}, fun(Sup, Pid) ->
        shutdown = terminated(Sup, Pid),
        undefined = pid(Sup, x)
    end).

brutal_kill_ends_it_with_killed(Config) ->
    with_child(Config, #{shutdown => brutal_kill}, #{}, fun(Sup, Pid) ->
        killed = terminated(Sup, Pid)
    end).

who_is_blocked_hears_of_shutdown(Config) ->
    with_child(Config, #{shutdown => 5000}, #{}, fun(Sup, Pid) ->
        tell(Pid, {block, x}),
        await(blocked, x),
        shutdown = terminated(Sup, Pid)
    end).

%% A head on the VM does not trap exits: it ends at once, and its body behind it.
who_does_not_end_in_time_is_killed(Config) ->
    with_child(Config, #{shutdown => 50}, #{}, fun(Sup, Pid) ->
        tell(Pid, {busy, 700}),
        Busy = await(busy, x),
        Expected =
            case node(Pid) =:= node() of
                true -> shutdown;
                false -> killed
            end,
        Ref = monitor(process, Busy),
        Expected = terminated(Sup, Pid),
        _ = down(Ref)
    end).

who_is_busy_may_take_its_time(Config) ->
    with_child(Config, #{shutdown => infinity}, #{}, fun(Sup, Pid) ->
        tell(Pid, {busy, 300}),
        Busy = await(busy, x),
        Ref = monitor(process, Busy),
        shutdown = terminated(Sup, Pid),
        shutdown = down(Ref)
    end).

an_exit_signal_restarts_a_permanent_child(Config) ->
    with_child(Config, #{}, #{intensity => 10}, fun(Sup, Pid0) ->
        lists:foldl(
            fun({Reason, Seen}, Pid) ->
                Ref = monitor(process, Pid),
                exit(Pid, Reason),
                {Reason, Seen} = {Reason, down(Ref)},
                await(init, x),
                Next = pid(Sup, x),
                true = is_pid(Next) andalso Next =/= Pid,
                Next
            end,
            Pid0,
            [
                {boom, boom},
                {kill, killed},
                {shutdown, shutdown},
                {{shutdown, why}, {shutdown, why}},
                {{a, [large, "term"], #{k => v}}, {a, [large, "term"], #{k => v}}}
            ]
        )
    end).

exit_with_normal_is_ignored(Config) ->
    with_child(Config, #{}, #{}, fun(Sup, Pid) ->
        exit(Pid, normal),
        {status, Pid, _, _} = sys:get_status(Pid),
        Pid = pid(Sup, x)
    end).

a_transient_child_comes_back_after_abnormal_ends_only(Config) ->
    Transient = #{restart => transient},
    [
        with_child(Config, Transient, #{}, fun(Sup, Pid) ->
            Ref = monitor(process, Pid),
            End(Pid),
            _ = down(Ref),
            eventually(child_let_go, fun() -> pid(Sup, x) =:= undefined end)
        end)
     || End <- [
            fun(P) -> exit(P, shutdown) end,
            fun(P) -> exit(P, {shutdown, x}) end,
            fun(P) -> ok = proc_lib:stop(P, normal, 5000) end,
            fun(P) -> tell(P, {exit, normal}) end,
            fun(P) -> tell(P, {exit, {shutdown, x}}) end
        ]
    ],
    with_child(Config, Transient, #{}, fun(Sup, Pid) ->
        exit(Pid, boom),
        await(init, x),
        true = is_pid(pid(Sup, x))
    end).

a_temporary_child_never_comes_back(Config) ->
    with_child(Config, #{restart => temporary}, #{}, fun(Sup, Pid) ->
        Ref = monitor(process, Pid),
        exit(Pid, boom),
        boom = down(Ref),
        eventually(child_deleted, fun() -> supervisor:which_children(Sup) =:= [] end)
    end).

its_own_exit_is_the_reason(Config) ->
    with_child(Config, #{}, #{intensity => 10}, fun(Sup, Pid0) ->
        lists:foldl(
            fun(Reason, Pid) ->
                Ref = monitor(process, Pid),
                tell(Pid, {exit, Reason}),
                {Reason, Reason} = {Reason, down(Ref)},
                await(init, x),
                pid(Sup, x)
            end,
            Pid0,
            [boom, {some, <<"reason">>}, shutdown, normal]
        )
    end).

intensity_is_reached(Config) ->
    {Owner, Sup} = supervisor(#{intensity => 2, period => 60}, [child(Config, x)]),
    await(init, x),
    Ref = monitor(process, Sup),
    OwnerRef = monitor(process, Owner),
    [
        begin
            exit(pid(Sup, x), boom),
            await(init, x)
        end
     || _ <- [1, 2]
    ],
    exit(pid(Sup, x), boom),
    shutdown = down(Ref),
    {sup, shutdown} = down(OwnerRef),
    [] = [M || {init, _, _} = M <- mailbox()].

children_stop_in_reverse_order(Config) ->
    {Owner, Sup} = supervisor(#{}, [child(Config, N) || N <- [x, y, z]]),
    [await(init, N) || N <- [x, y, z]],
    Refs = maps:from_list([{monitor(process, pid(Sup, N)), N} || N <- [x, y, z]]),
    Ref = monitor(process, Sup),
    Owner ! {stop, shutdown},
    shutdown = down(Ref),
    [z, y, x] = [
        receive
            {'DOWN', R, _, _, shutdown} when is_map_key(R, Refs) -> maps:get(R, Refs)
        after ?LIMIT -> ct:fail({waited_in_vain_for, children, mailbox()})
        end
     || _ <- [1, 2, 3]
    ].

one_for_all_restarts_all(Config) ->
    Both = {_, Sup} = supervisor(#{strategy => one_for_all}, [child(Config, N) || N <- [x, y]]),
    [await(init, N) || N <- [x, y]],
    Y = pid(Sup, y),
    Ref = monitor(process, Y),
    exit(pid(Sup, x), boom),
    shutdown = down(Ref),
    [await(init, N) || N <- [x, y]],
    true = pid(Sup, y) =/= Y,
    stop(Both).

rest_for_one_restarts_the_rest(Config) ->
    Both = {_, Sup} = supervisor(#{strategy => rest_for_one}, [child(Config, N) || N <- [x, y, z]]),
    [await(init, N) || N <- [x, y, z]],
    [X, Y, Z] = [pid(Sup, N) || N <- [x, y, z]],
    Ref = monitor(process, Z),
    exit(Y, boom),
    shutdown = down(Ref),
    [await(init, N) || N <- [y, z]],
    X = pid(Sup, x),
    true = Y =/= pid(Sup, y) andalso Z =/= pid(Sup, z),
    stop(Both).

children_can_be_terminated_restarted_deleted(Config) ->
    Both = {_, Sup} = supervisor(#{}, [child(Config, x)]),
    await(init, x),
    Pid = pid(Sup, x),
    {error, running} = supervisor:delete_child(Sup, x),
    {error, running} = supervisor:restart_child(Sup, x),
    ok = supervisor:terminate_child(Sup, x),
    {ok, Next} = supervisor:restart_child(Sup, x),
    await(init, x),
    true = Next =/= Pid,
    ok = supervisor:terminate_child(Sup, x),
    ok = supervisor:delete_child(Sup, x),
    [] = supervisor:which_children(Sup),
    {ok, _} = supervisor:start_child(Sup, child(Config, y)),
    await(init, y),
    {error, {already_started, _}} = supervisor:start_child(Sup, child(Config, y)),
    stop(Both).

simple_one_for_one_children_are_alike(Config) ->
    #{start := {M, F, A}} = Child = child(Config, x),
    {Own, Given} = lists:split(1, A),
    Both = {_, Sup} = supervisor(#{strategy => simple_one_for_one, intensity => 10}, [
        Child#{start => {M, F, Own}}
    ]),
    [A1, B1, C1] = [
        begin
            {ok, Pid} = supervisor:start_child(Sup, Given),
            await(init, x),
            Pid
        end
     || _ <- [1, 2, 3]
    ],
    ok = supervisor:terminate_child(Sup, A1),
    Ref = monitor(process, B1),
    exit(B1, boom),
    boom = down(Ref),
    await(init, x),
    Left = [P || {undefined, P, worker, _} <- supervisor:which_children(Sup)],
    2 = length(Left),
    true = lists:member(C1, Left) andalso not lists:member(B1, Left),
    Refs = [monitor(process, P) || P <- Left],
    stop_quietly(Both),
    [shutdown, shutdown] = [down(R) || R <- Refs].

stop_quietly({Owner, Sup}) ->
    Ref = monitor(process, Sup),
    Owner ! {stop, shutdown},
    shutdown = down(Ref),
    ok.

a_killed_supervisor_takes_its_child_along(Config) ->
    {_, Sup} = supervisor(#{}, [child(Config, x)]),
    await(init, x),
    Ref = monitor(process, pid(Sup, x)),
    exit(Sup, kill),
    killed = down(Ref).

a_supervisor_ends_its_child_with_shutdown(Config) ->
    {Owner, Sup} = supervisor(#{}, [child(Config, x)]),
    await(init, x),
    Ref = monitor(process, pid(Sup, x)),
    Owner ! {stop, shutdown},
    shutdown = down(Ref).

a_start_that_fails_fails_the_supervisor(Config) ->
    {error, {not_started, {shutdown, {failed_to_start_child, y, _}}}} =
        supervisor(#{}, [
            child(Config, x), #{id => y, start => proplists:get_value(fails, Config)}
        ]),
    X = await(init, x),
    %% and what was there before is stopped
    noproc_or_shutdown(X).

noproc_or_shutdown(Pid) ->
    Ref = monitor(process, Pid),
    Reason = down(Ref),
    true = lists:member(Reason, [noproc, shutdown]).

%% The second start fails, the third does not.
a_restart_that_fails_is_tried_again(Config) ->
    #{start := Start} = Child = child(Config, x),
    Tries = counters:new(1, []),
    Both = {_, Sup} = supervisor(#{intensity => 5}, [
        Child#{start => {?MODULE, fails_once, [Tries, Start]}}
    ]),
    await(init, x),
    Pid = pid(Sup, x),
    exit(Pid, boom),
    await(init, x),
    true = is_pid(pid(Sup, x)),
    3 = counters:get(Tries, 1),
    stop(Both).

fails_once(Tries, {M, F, A}) ->
    counters:add(Tries, 1, 1),
    case counters:get(Tries, 1) of
        2 -> {error, not_now};
        _ -> apply(M, F, A)
    end.

%%% Co-ops alone

the_end_of_any_process_restarts_the_whole(Config) ->
    with_child(Config, #{}, #{intensity => 100}, fun(Sup, First) ->
        N = length(esp_test_lib:pids(First)),
        [
            begin
                Head = pid(Sup, x),
                All = esp_test_lib:pids(Head),
                Refs = esp_test_lib:monitors(All),
                exit(lists:nth(I, All), Reason),
                [Seen] = lists:usort([down(R) || R <- Refs]),
                await(init, x)
            end
         || I <- lists:seq(1, N),
            {Reason, Seen} <- [{kill, killed}]
        ]
    end).

a_parents_normal_end_ends_it(Config) ->
    #{start := {M, F, A}} = child(Config, x),
    Self = self(),
    Parent = spawn(fun() ->
        {ok, Pid} = apply(M, F, A),
        Self ! {started, esp_test_lib:pids(Pid)},
        receive
            finish -> ok
        end
    end),
    Pids =
        receive
            {started, P} -> P
        after ?LIMIT -> ct:fail(not_started)
        end,
    Refs = esp_test_lib:monitors(Pids),
    Parent ! finish,
    [normal] = lists:usort([down(R) || R <- Refs]).

nothing_is_left_of_it(Config) ->
    %% the relaying VM's own processes on it are there from the first
    Before = esp_test_c_node:processes(?C_NODE),
    with_child(Config, #{}, #{intensity => 10}, fun(Sup, Pid) ->
        exit(Pid, boom),
        await(init, x),
        ok = supervisor:terminate_child(Sup, x),
        {ok, _} = supervisor:restart_child(Sup, x),
        await(init, x)
    end),
    esp_test_c_node:settled(?C_NODE, Before).

%%% Loss

lost(Child, Lose) ->
    Both = {_, Sup} = supervisor(#{}, [Child#{restart => temporary}]),
    await(init, x),
    Ref = monitor(process, pid(Sup, x)),
    Lose(),
    noconnection = down(Ref),
    eventually(child_deleted, fun() -> supervisor:which_children(Sup) =:= [] end),
    stop(Both).

the_loss_of_a_peer_ends_the_child_with_noconnection(_) ->
    {_, Node} = Peer = esp_test_c_node:start_peer(lost),
    Child = #{id => x, start => {?MODULE, start_server, [Node, {self(), x}]}},
    OsPid = erpc:call(Node, os, getpid, []),
    lost(Child, fun() -> [] = os:cmd("kill -KILL " ++ OsPid) end),
    try
        esp_test_c_node:stop_peer(Peer)
    catch
        exit:_ -> ok
    end.

the_loss_of_the_c_node_ends_the_child_with_noconnection(_) ->
    [
        lost(
            #{id => x, start => {coop, start_link, [template(Kind, {self(), x}), opts()]}},
            fun() -> esp_test_lib:kill_c_node(?C_NODE) end
        )
     || Kind <- [native_coop, native_entry, erlang_entry]
    ].

%% Each kind of co-op under one supervisor that allows three restarts in a
%% minute: the C-node is held back while they wait.
a_restart_waits_for_the_c_node_and_costs_one(Config) ->
    Hold = filename:join(proplists:get_value(priv_dir, Config), "hold"),
    Script = Hold ++ ".sh",
    Binary = os:getenv("ESP_NODE_BINARY"),
    ok = file:write_file(Script, [
        "#!/bin/sh\nwhile [ -e ", Hold, " ]; do sleep 0.02; done\nexec ", Binary, " \"$@\"\n"
    ]),
    ok = file:change_mode(Script, 8#755),
    Kinds = [native_coop, native_entry, erlang_entry],
    Node = #{binary => Script, plugins => [esp_test_c_node:plugin(P) || P <- [lives, sums]]},
    Both = {_, Sup} = supervisor(#{intensity => 3, period => 60}, [
        esp_node:child_spec(Node#{name => t_held})
        | [
            coop:child_spec(#{id => Kind, template => template(Kind, {self(), Kind}), node => t_held})
         || Kind <- Kinds
        ]
    ]),
    [await(init, Kind) || Kind <- Kinds],
    Ref = monitor(process, Sup),
    Pids = [pid(Sup, Kind) || Kind <- Kinds],
    ok = file:write_file(Hold, <<>>),
    Downs = [monitor(process, P) || P <- Pids],
    esp_test_c_node:kill(t_held),
    [noconnection] = lists:usort([down(R) || R <- Downs]),
    %% the supervisor is in a start that waits, whichever child's it is
    eventually(supervisor_waits, fun() ->
        {current_stacktrace, Stack} = process_info(Sup, current_stacktrace),
        lists:keymember(coop_start, 1, Stack)
    end),
    [] = [M || {init, _, _} = M <- mailbox()],
    ok = file:delete(Hold),
    [await(init, Kind) || Kind <- Kinds],
    [ok = coop:flush(pid(Sup, Kind), ?LIMIT) || Kind <- Kinds],
    demonitor(Ref, [flush]),
    stop(Both).

rest_for_one_brings_everything_back(_) ->
    Kinds = [native_coop, native_entry, erlang_entry],
    Plugins = [esp_test_c_node:plugin(P) || P <- [lives, sums]],
    Self = self(),
    Both = {_, Sup} = supervisor(#{strategy => rest_for_one, intensity => 3, period => 60}, [
        esp_node:child_spec(#{name => t_rest, plugins => Plugins, intensity => 5, period => 60})
        | [
            coop:child_spec(#{
                id => Kind,
                template => template(Kind, {Self, Kind}),
                node => t_rest,
                receiver => Self
            })
         || Kind <- Kinds
        ]
    ]),
    [await(init, Kind) || Kind <- Kinds],
    Works = fun() ->
        [
            begin
                ok = coop:relay_data(pid(Sup, Kind), {datum, Kind}),
                ok = coop:flush(pid(Sup, Kind), ?LIMIT),
                receive
                    {datum, Kind} -> ok
                after 0 -> ct:fail({lost, Kind})
                end
            end
         || Kind <- Kinds
        ]
    end,
    Works(),
    esp_test_c_node:kill(t_rest),
    [await(init, Kind) || Kind <- Kinds],
    Works(),
    stop(Both),
    eventually(c_node_gone, fun() -> esp_test_lib:os_pids(t_rest) =:= [] end).

a_start_gives_up_in_time(_) ->
    {error, {not_up, _}} = coop:start_link(
        template(native_coop, {self(), x}), #{node => t_never, start_timeout => 50}
    ),
    {error, {not_up, _}} = coop:start_link(
        template(erlang_entry, {self(), x}), #{node => t_never, start_timeout => 50}
    ).
