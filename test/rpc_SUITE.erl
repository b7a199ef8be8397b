%% What Erlang nodes can call and spawn on a C-node, and what a task on it can
%% call on them (protocol.md, sections 8 and 9).
-module(rpc_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [take/1, mailbox/0, down/1]).

-define(NAME, t_rpc).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        a_ping_is_a_pong_and_the_connection_stays,
        a_call_gives_the_value_or_the_exception,
        only_what_is_in_the_table_can_be_called,
        badrpc_is_what_rpc_makes_of_it,
        many_nodes_are_called_at_once,
        requests_are_collected_in_any_order,
        a_call_that_is_not_waited_for_leaves_nothing,
        casts_are_carried_out,
        closures_do_not_run_and_exports_do,
        spawned_functions_end_as_anywhere,
        a_spawned_process_is_linked_and_monitored_before_it_ends,
        a_spawned_process_is_killed_by_its_parents_end,
        the_group_leader_comes_along,
        an_unknown_function_is_spawned_and_is_undef,
        wrong_options_are_badopt,
        two_nodes_call_at_once,
        processes_are_shown,
        a_task_calls_a_server,
        a_task_runs_a_fun_where_it_came_from,
        a_task_that_receives_leaves_the_data_that_wait,
        init_stop_ends_the_c_node
    ].

init_per_suite(Config) ->
    Started = esp_test_lib:start_app(),
    Talks = filename:join(filename:dirname(esp_test_lib:plugin()), "talks.so"),
    [{started, Started}, {owner, start_node(?NAME, #{plugins => [Talks]})} | Config].

end_per_suite(Config) ->
    stop_node(proplists:get_value(owner, Config)),
    esp_test_lib:stop_app(proplists:get_value(started, Config)).

%% The process that starts a C-node owns it, and a suite's ends before its
%% cases begin.
start_node(Name, Opts) ->
    Self = self(),
    {Holder, Ref} = spawn_monitor(fun() ->
        {ok, Owner} = esp_node:start_link(Name, Opts),
        Self ! {up, self()},
        receive
            stop -> gen_server:stop(Owner)
        end
    end),
    receive
        {up, Holder} ->
            demonitor(Ref, [flush]),
            Holder;
        {'DOWN', Ref, process, _, Reason} ->
            ct:fail(Reason)
    end.

stop_node(Holder) ->
    Ref = monitor(process, Holder),
    Holder ! stop,
    normal = down(Ref).

c_node() -> esp_node:node(?NAME).

a_ping_is_a_pong_and_the_connection_stays(_) ->
    [pong = net_adm:ping(c_node()) || _ <- lists:seq(1, 100)],
    true = lists:member(c_node(), nodes(hidden)).

a_call_gives_the_value_or_the_exception(_) ->
    N = c_node(),
    N = erpc:call(N, erlang, node, []),
    {throw, ball} = caught(erlang, throw, [ball]),
    {exit, {exception, why}} = caught(erlang, exit, [why]),
    {error, {exception, bad, [{erlang, error, [bad], []}]}} = caught(erlang, error, [bad]),
    {error, {exception, badarg, [{erlang, whereis, [7], [{error_info, _}]}]}} =
        caught(erlang, whereis, [7]).

caught(M, F, A) ->
    try
        {value, erpc:call(c_node(), M, F, A)}
    catch
        Class:Reason -> {Class, Reason}
    end.

only_what_is_in_the_table_can_be_called(_) ->
    [
        {error, {exception, undef, [{M, F, A, []}]}} = caught(M, F, A)
     || {M, F, A} <- [
            {os, cmd, ["true"]},
            {file, read_file, ["/etc/passwd"]},
            {erlang, halt, []},
            {erlang, node, [1, 2, 3]},
            {erlang, nope, lists:duplicate(255, x)}
        ]
    ].

badrpc_is_what_rpc_makes_of_it(_) ->
    N = c_node(),
    N = rpc:call(N, erlang, node, []),
    N = rpc:block_call(N, erlang, node, []),
    {badrpc, {'EXIT', {undef, [{os, cmd, [x], []}]}}} = rpc:call(N, os, cmd, [x]),
    {badrpc, {'EXIT', why}} = rpc:call(N, erlang, exit, [why]),
    ball = rpc:call(N, erlang, throw, [ball]),
    {badrpc, timeout} = rpc:call(N, timer, sleep, [infinity], 20).

many_nodes_are_called_at_once(_) ->
    N = c_node(),
    {[N, Me], []} = rpc:multicall([N, node()], erlang, node, []),
    Me = node(),
    [{ok, N}, {ok, Me}] = erpc:multicall([N, Me], erlang, node, []),
    1000 = length([ok || {ok, _} <- erpc:multicall(lists:duplicate(1000, N), erlang, self, [])]).

requests_are_collected_in_any_order(_) ->
    Ids = [erpc:send_request(c_node(), erlang, apply, [erlang, throw, [I]]) || I <- [1, 2, 3]],
    [3, 2, 1] = [
        try
            erpc:receive_response(Id)
        catch
            throw:I -> I
        end
     || Id <- lists:reverse(Ids)
    ].

a_call_that_is_not_waited_for_leaves_nothing(_) ->
    {error, {erpc, timeout}} =
        try
            erpc:call(c_node(), timer, sleep, [50], 10)
        catch
            C:R -> {C, R}
        end,
    ok = erpc:call(c_node(), timer, sleep, [60]),
    [] = mailbox().

casts_are_carried_out(_) ->
    Waits = fun() ->
        receive
            X -> exit(X)
        end
    end,
    {P1, R1} = spawn_monitor(Waits),
    ok = erpc:cast(c_node(), erlang, exit, [P1, one]),
    one = down(R1),
    {P2, R2} = spawn_monitor(Waits),
    true = rpc:cast(c_node(), erlang, exit, [P2, two]),
    two = down(R2).

closures_do_not_run_and_exports_do(_) ->
    F = fun() -> node() end,
    {badfun, F} =
        try
            erpc:call(c_node(), F)
        catch
            error:{exception, Reason, _} -> Reason
        end,
    N = c_node(),
    N = erpc:call(N, fun erlang:node/0),
    {P, R} = spawn_monitor(N, F),
    N = node(P),
    {{badfun, F}, _} = down(R).

spawned_functions_end_as_anywhere(_) ->
    N = c_node(),
    Ends = fun(M, F, A) ->
        {P, R} = spawn_monitor(N, M, F, A),
        N = node(P),
        down(R)
    end,
    normal = Ends(erlang, node, []),
    why = Ends(erlang, exit, [why]),
    {{nocatch, ball}, _} = Ends(erlang, throw, [ball]),
    {bad, [{erlang, error, [bad], []}]} = Ends(erlang, error, [bad]),
    {badarg, _} = Ends(erlang, whereis, [7]).

a_spawned_process_is_linked_and_monitored_before_it_ends(_) ->
    process_flag(trap_exit, true),
    Refs = [
        {I, spawn_request(c_node(), erlang, exit, [I], [link, monitor])}
     || I <- lists:seq(1, 1000)
    ],
    [
        receive
            {spawn_reply, Ref, ok, P} ->
                receive
                    {'EXIT', P, I} -> ok
                end,
                I = down(Ref)
        end
     || {I, Ref} <- Refs
    ],
    [] = mailbox().

a_spawned_process_is_killed_by_its_parents_end(_) ->
    Self = self(),
    {Parent, R} = spawn_monitor(fun() ->
        Self ! {child, spawn_link(c_node(), timer, sleep, [infinity])},
        receive
            stop -> exit(stopped)
        end
    end),
    [{child, P}] = take(1),
    ChildRef = monitor(process, P),
    Parent ! stop,
    stopped = down(R),
    stopped = down(ChildRef),
    false = erpc:call(c_node(), erlang, is_process_alive, [P]).

the_group_leader_comes_along(_) ->
    Gl = group_leader(),
    Gl = erpc:call(c_node(), erlang, group_leader, []).

an_unknown_function_is_spawned_and_is_undef(_) ->
    process_flag(trap_exit, true),
    P = spawn_link(c_node(), no, such, [1]),
    [{'EXIT', P, {undef, [{no, such, [1], []}]}}] = take(1).

%% The VM checks its own options; this goes past it, as another peer could.
wrong_options_are_badopt(_) ->
    Ref = spawn_request(c_node(), erlang, node, [], [{message_queue_data, on_heap}, {min_heap_size, 5}]),
    receive
        {spawn_reply, Ref, ok, P} -> true = is_pid(P)
    end,
    Bad = spawn_request(c_node(), erlang, node, [], [{no_such_option, 1}]),
    receive
        {spawn_reply, Bad, error, badopt} -> ok
    end.

two_nodes_call_at_once(_) ->
    {ok, Peer, Other} = peer:start_link(#{
        name => peer:random_name(), host => "127.0.0.1", longnames => true,
        args => ["-setcookie", atom_to_list(erlang:get_cookie()), "-hidden"]
    }),
    N = c_node(),
    Call = fun() -> [N = erpc:call(N, erlang, node, []) || _ <- lists:seq(1, 200)] end,
    {_, R} = spawn_monitor(Call),
    N = erpc:call(Other, erpc, call, [N, erlang, node, []]),
    lists:foreach(
        fun(_) -> N = erpc:call(Other, rpc, call, [N, erlang, node, []]) end, lists:seq(1, 100)
    ),
    normal = down(R),
    true = lists:member(Other, erpc:call(N, erlang, nodes, [])),
    peer:stop(Peer),
    esp_test_lib:eventually(peer_gone, fun() ->
        not lists:member(Other, erpc:call(N, erlang, nodes, []))
    end),
    N = erpc:call(N, erlang, node, []).

processes_are_shown(_) ->
    N = c_node(),
    Names = erpc:call(N, erlang, registered, []),
    [true = lists:member(Name, Names) || Name <- [net_kernel, rex, erlangsp, logger_proxy]],
    P = spawn_link(N, timer, sleep, [infinity]),
    monitor(process, P),
    Self = self(),
    [{links, [Self]}, {monitored_by, [Self]}, {registered_name, []}, {status, waiting}] =
        settled(fun() ->
            erpc:call(N, erlang, process_info, [P, [links, monitored_by, registered_name, status]])
        end),
    [] = erpc:call(N, erlang, process_info, [P, registered_name]),
    All = erpc:call(N, erlang, process_info, [P]),
    {timer, sleep, 1} = proplists:get_value(initial_call, All),
    true = lists:member(P, erpc:call(N, erlang, processes, [])),
    unlink(P),
    exit(P, kill),
    receive
        {'DOWN', _, process, P, killed} -> ok
    end,
    undefined = erpc:call(N, erlang, process_info, [P]),
    {error, {exception, badarg, _}} = caught(erlang, process_info, [self()]).

%% The sleeper may be seen before it sleeps.
settled(Ask) ->
    esp_test_lib:eventually(it_sleeps, fun() ->
        case Ask() of
            Info = [_ | _] -> lists:keyfind(status, 1, Info) =:= {status, waiting};
            Other -> Other
        end
    end),
    Ask().

%%% What a task calls

talker() ->
    Template = coop_flow:pipeline([coop:native(talk, talks, talk, #{})]),
    {ok, Coop} = coop:start_link(Template, #{node => ?NAME, receiver => self()}),
    Coop.

said(Coop, What) ->
    ok = coop:relay_data(Coop, What),
    [Result] = take(1),
    Result.

a_task_calls_a_server(_) ->
    Coop = talker(),
    Server = spawn(fun() ->
        receive
            {'$gen_call', From, Request} -> gen:reply(From, {got, Request})
        end,
        receive
            {'$gen_call', _, _} -> exit(gone)
        end
    end),
    {ok, {got, 1}} = said(Coop, {call, Server, 1}),
    {error, refused, <<"gone">>} = said(Coop, {call, Server, 2}),
    {error, noproc, _} = said(Coop, {call, Server, 3}),
    ok = coop:stop(Coop).

a_task_runs_a_fun_where_it_came_from(_) ->
    Coop = talker(),
    Me = self(),
    {ok, {42, Me}} = said(Coop, {rpc, node(), fun(X) -> {X * 3, Me} end, [14]}),
    {error, refused, <<"throw:ball">>} = said(Coop, {rpc, node(), fun() -> throw(ball) end, []}),
    {error, noconnection, _} = said(Coop, {rpc, 'no@127.0.0.1', fun() -> ok end, []}),
    ok = coop:stop(Coop).

a_task_that_receives_leaves_the_data_that_wait(_) ->
    Coop = talker(),
    [ok = coop:relay_data(Coop, D) || D <- [{wait, self()}, a, b]],
    [{waiting, Node}] = take(1),
    Node ! c,
    Node ! {go, now},
    %% a and b come by way of the head, c does not: nothing orders them
    [now | Left] = take(4),
    [a, b] = Left -- [c],
    ok = coop:stop(Coop).

init_stop_ends_the_c_node(_) ->
    process_flag(trap_exit, true),
    {ok, Owner} = esp_node:start_link(t_rpc_stop, #{}),
    N = esp_node:node(t_rpc_stop),
    {P, R} = spawn_monitor(N, timer, sleep, [infinity]),
    N = node(P),
    ok = rpc:call(N, init, stop, []),
    shutdown = down(R),
    receive
        {'EXIT', Owner, _} -> ok
    end,
    esp_test_lib:eventually(c_node_gone, fun() -> esp_test_lib:os_pids(t_rpc_stop) =:= [] end).
