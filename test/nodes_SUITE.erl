%% Several Erlang nodes at one C-node, hidden and visible, started in every way;
%% ends of nodes, of C-nodes and of epmd (protocol.md, sections 1, 7, 15, 16).
%%
%% Each VM has an agent, a process that lasts and does there what a case wants
%% done; its messages wait for it.
-module(nodes_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([start_agent/0, ask/1, run_and_stop/1]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2]).

-define(C_NODE, 'nd_c@127.0.0.1').
-define(LIMIT, 10_000).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [
        it_is_a_hidden_node_to_each,
        messages_go_from_any_node_to_any_other,
        links_and_monitors_of_all_fire_with_the_reason,
        whoever_let_go_hears_nothing,
        exits_from_one_node_are_seen_by_the_others,
        a_name_is_known_to_all_and_free_again,
        a_pid_may_have_a_global_name,
        what_it_prints_comes_out_where_its_group_leader_is,
        one_process_s_signals_keep_their_order_whatever_their_size,
        each_node_s_order_is_kept_among_the_others,
        a_killed_node_is_noconnection_and_the_others_go_on,
        a_node_that_comes_back_is_another,
        a_disconnect_breaks_what_crosses_it_only,
        a_restarted_c_node_has_a_new_creation_and_stale_pids_are_noproc,
        epmd_may_go_and_come_and_the_creation_stays,
        a_vm_with_a_long_name_has_its_c_node,
        a_vm_with_a_short_name_has_its_c_node,
        a_vm_without_a_name_has_its_c_node,
        a_vm_with_a_cookie_of_its_own_has_its_c_node
    ].

init_per_suite(Config) ->
    CNode = esp_test_dist:start_c_node(?C_NODE, plugins()),
    Vms = [{v, start_vm([])}, {h1, start_vm(["-hidden"])}, {h2, start_vm(["-hidden"])}],
    [{c_node, CNode}, {vms, Vms} | Config].

end_per_suite(Config) ->
    [stop_vm(Vm) || {_, Vm} <- proplists:get_value(vms, Config)],
    esp_test_dist:stop_c_node(proplists:get_value(c_node, Config)).

%% Nothing of a case is left over for the next one.
end_per_testcase(_, Config) ->
    [
        do(Vm, fun() ->
            _ = esp_test_lib:mailbox(),
            ok
        end)
     || {_, Vm} <- proplists:get_value(vms, Config)
    ],
    ok.

plugins() ->
    Folder = filename:dirname(esp_test_lib:plugin()),
    lists:append([["--plugin", filename:join(Folder, P)] || P <- ["sums.so", "talks.so"]]).

%%% VMs and their agents

start_vm(Args) -> start_vm(Args, []).

%% Not known to this VM but through its standard input and output.
start_vm(Args, Env) ->
    {ok, Peer, Node} = peer:start(#{
        name => peer:random_name(nd),
        host => "127.0.0.1",
        longnames => true,
        connection => standard_io,
        args => ["-pa" | code:get_path()] ++ ["-setcookie", atom_to_list(erlang:get_cookie()) | Args],
        env => Env
    }),
    Agent = peer:call(Peer, ?MODULE, start_agent, []),
    #{peer => Peer, node => Node, agent => Agent}.

stop_vm(#{peer := Peer}) -> peer:stop(Peer).

kill_vm(#{peer := Peer, node := Node}) ->
    OsPid = peer:call(Peer, os, getpid, []),
    unlink(Peer),
    Ref = monitor(process, Peer),
    [] = os:cmd("kill -KILL " ++ OsPid),
    _ = esp_test_lib:down(Ref),
    Node.

start_agent() ->
    {ok, _} = application:ensure_all_started(erlangsp),
    Agent = spawn(fun() ->
        process_flag(trap_exit, true),
        agent()
    end),
    true = register(agent, Agent),
    Agent.

agent() ->
    receive
        {do, From, Ref, Fun} ->
            From ! {Ref, try {ok, Fun()} catch C:R:S -> {C, R, S} end},
            agent()
    end.

ask(Fun) ->
    Ref = monitor(process, agent),
    agent ! {do, self(), Ref, Fun},
    receive
        {Ref, Answer} -> Answer;
        {'DOWN', Ref, process, _, Reason} -> {agent, Reason}
    end.

do(#{peer := Peer, node := Node}, Fun) ->
    case peer:call(Peer, ?MODULE, ask, [Fun], 2 * ?LIMIT) of
        {ok, Result} -> Result;
        Failed -> ct:fail({Node, Failed})
    end.

vm(Name, Config) -> proplists:get_value(Name, proplists:get_value(vms, Config)).

take(Vm, N) -> do(Vm, fun() -> esp_test_lib:take(N) end).

%% What reached the agent until its connection has said all that it had to say.
heard(Vm) ->
    do(Vm, fun() ->
        ?C_NODE = erpc:call(?C_NODE, erlang, node, []),
        esp_test_lib:mailbox()
    end).

%% The head's pid of a new co-op that passes on what it gets; linked to the agent.
start_same(Vm, Options) ->
    do(Vm, fun() ->
        T = coop_flow:pipeline([coop:native(same, sums, same, #{})]),
        {ok, Coop} = coop:start_link(T, maps:merge(#{node => ?C_NODE}, Options)),
        coop:head(Coop)
    end).

%%% All at once

it_is_a_hidden_node_to_each(Config) ->
    Vms = [V, H1, H2] = [vm(Name, Config) || Name <- [v, h1, h2]],
    lists:foreach(
        fun(Vm) ->
            {pong, Hidden, Visible} = do(Vm, fun() ->
                {net_adm:ping(?C_NODE), nodes(hidden), nodes()}
            end),
            true = lists:member(?C_NODE, Hidden),
            false = lists:member(?C_NODE, Visible)
        end,
        Vms
    ),
    Connected = do(V, fun() -> erpc:call(?C_NODE, erlang, nodes, [connected]) end),
    [] = [maps:get(node, Vm) || Vm <- Vms] -- Connected,
    %% to a C-node a visible node is visible
    true = lists:member(maps:get(node, V), do(H1, fun() -> erpc:call(?C_NODE, erlang, nodes, [visible]) end)),
    %% and it has not brought them together
    [] = [N || N <- do(H2, fun() -> nodes(connected) end), N =/= ?C_NODE].

messages_go_from_any_node_to_any_other(Config) ->
    Vms = [vm(Name, Config) || Name <- [v, h1, h2]],
    lists:foreach(
        fun({Starter, Sender, Receiver = #{agent := Agent, node := Node}}) ->
            ByPid = start_same(Starter, #{receiver => Agent}),
            ByName = start_same(Starter, #{receiver => {agent, Node}, tag => by_name}),
            do(Sender, fun() ->
                ByPid ! plain,
                ok = coop:relay_data(ByPid, #{with => credit}),
                ok = coop:relay_data(ByName, [1, 2.0, <<"3">>, self()])
            end),
            Self = maps:get(agent, Sender),
            Expected = lists:sort([plain, #{with => credit}, {by_name, [1, 2.0, <<"3">>, Self]}]),
            Expected = lists:sort(take(Receiver, 3)),
            do(Starter, fun() -> [ok = coop:stop(Coop) || Coop <- [ByPid, ByName]] end),
            [{'EXIT', _, normal}, {'EXIT', _, normal}] = take(Starter, 2)
        end,
        [{A, B, C} || A <- Vms, B <- Vms, C <- Vms, A =/= C]
    ).

links_and_monitors_of_all_fire_with_the_reason(Config) ->
    [V, H1, H2] = [vm(Name, Config) || Name <- [v, h1, h2]],
    Head = start_same(V, #{name => nd_watched}),
    ByName = do(V, fun() -> monitor(process, {nd_watched, ?C_NODE}) end),
    ByPid = do(H1, fun() -> link(Head), monitor(process, Head) end),
    ByPid2 = do(H2, fun() -> monitor(process, Head) end),
    %% each has been heard: signals of one process keep their order
    [[] = heard(Vm) || Vm <- [V, H1, H2]],
    do(H2, fun() -> exit(Head, {boom, "reason"}) end),
    [{'DOWN', ByPid2, process, Head, {boom, "reason"}}] = take(H2, 1),
    %% links before monitors
    [{'EXIT', Head, {boom, "reason"}}, {'DOWN', ByPid, process, Head, {boom, "reason"}}] = take(H1, 2),
    [{'EXIT', Head, {boom, "reason"}}, {'DOWN', ByName, process, {nd_watched, ?C_NODE}, {boom, "reason"}}] =
        take(V, 2),
    %% what has ended is noproc to each
    [
        [{'DOWN', Ref, process, Head, noproc}] = take(Vm, 1)
     || Vm <- [V, H1, H2], Ref <- [do(Vm, fun() -> monitor(process, Head) end)]
    ],
    [
        begin
            do(Vm, fun() -> link(Head) end),
            [{'EXIT', Head, noproc}] = take(Vm, 1)
        end
     || Vm <- [V, H1, H2]
    ].

whoever_let_go_hears_nothing(Config) ->
    [V, H1, H2] = [vm(Name, Config) || Name <- [v, h1, h2]],
    Head = start_same(V, #{name => nd_let_go}),
    do(V, fun() -> unlink(Head) end),
    do(H1, fun() ->
        [demonitor(monitor(process, T)) || T <- [Head, {nd_let_go, ?C_NODE}]],
        [link(Head) andalso unlink(Head) || _ <- lists:seq(1, 50)]
    end),
    Ref = do(H2, fun() -> link(Head), monitor(process, Head) end),
    [[] = heard(Vm) || Vm <- [V, H1, H2]],
    do(H1, fun() -> exit(Head, enough) end),
    [{'EXIT', Head, enough}, {'DOWN', Ref, process, Head, enough}] = take(H2, 2),
    [[] = heard(Vm) || Vm <- [V, H1]].

exits_from_one_node_are_seen_by_the_others(Config) ->
    [V, H1, H2] = [vm(Name, Config) || Name <- [v, h1, h2]],
    [
        begin
            Head = start_same(V, #{}),
            Ref = do(H1, fun() -> monitor(process, Head) end),
            [] = heard(H1),
            do(H2, fun() -> exit(Head, normal) end),
            do(H2, fun() -> exit(Head, Reason) end),
            [{'DOWN', Ref, process, Head, Seen}] = take(H1, 1),
            [{'EXIT', Head, Seen}] = take(V, 1)
        end
     || {Reason, Seen} <- [{kill, killed}, {shutdown, shutdown}, {#{a => "map"}, #{a => "map"}}]
    ].

a_name_is_known_to_all_and_free_again(Config) ->
    [V, H1, H2] = [vm(Name, Config) || Name <- [v, h1, h2]],
    Head = start_same(V, #{name => nd_name, receiver => maps:get(agent, H2)}),
    do(H1, fun() ->
        Head = erpc:call(?C_NODE, erlang, whereis, [nd_name]),
        {nd_name, ?C_NODE} ! by_name,
        T = coop_flow:pipeline([coop:native(same, sums, same, #{})]),
        {error, {already_started, Head}} = coop:start_link(T, #{node => ?C_NODE, name => nd_name})
    end),
    [by_name] = take(H2, 1),
    do(V, fun() -> ok = coop:stop(Head) end),
    [{'EXIT', Head, normal}] = take(V, 1),
    Again = start_same(H1, #{name => nd_name}),
    true = Again =/= Head,
    do(H1, fun() -> ok = coop:stop(Again) end).

a_pid_may_have_a_global_name(Config) ->
    [V, H2] = [vm(Name, Config) || Name <- [v, h2]],
    Head = start_same(V, #{receiver => maps:get(agent, H2)}),
    do(V, fun() ->
        yes = global:register_name(nd_global, Head),
        global:send(nd_global, hello),
        _ = sys:get_status({global, nd_global}),
        ok = coop:stop(Head),
        eventually(forgotten, fun() -> global:whereis_name(nd_global) =:= undefined end)
    end),
    [hello] = take(H2, 1),
    [{'EXIT', Head, normal}] = take(V, 1).

what_it_prints_comes_out_where_its_group_leader_is(Config) ->
    [V, H1] = [vm(Name, Config) || Name <- [v, h1]],
    Head = start_same(V, #{}),
    Agent = maps:get(agent, H1),
    %% the agent of another node leads it and is asked to print
    do(H1, fun() -> group_leader(self(), Head) end),
    do(H1, fun() ->
        {group_leader, Agent} = erpc:call(?C_NODE, erlang, process_info, [Head, group_leader]),
        ok = sys:trace(Head, true),
        Head ! seen_by_the_tracer,
        receive
            {io_request, From, ReplyAs, {put_chars, unicode, Text}} ->
                From ! {io_reply, ReplyAs, ok},
                {match, _} = re:run(unicode:characters_to_binary(Text), "seen_by_the_tracer")
        after ?LIMIT -> exit(nothing_printed)
        end
    end),
    do(V, fun() -> ok = coop:stop(Head) end).

%%% Order

%% From a few bytes to several fragments.
datum(N) ->
    Sizes = {0, 70_000, 10, 1, 200_000, 5, 65_536, 300_000, 100, 0},
    {N, binary:copy(<<N:8>>, element(N rem 10 + 1, Sizes))}.

one_process_s_signals_keep_their_order_whatever_their_size(Config) ->
    [V, H1] = [vm(Name, Config) || Name <- [v, h1]],
    Head = start_same(V, #{receiver => maps:get(agent, V)}),
    Count = 300,
    Each = fun(Fun) -> lists:foreach(Fun, lists:seq(1, Count)) end,
    do(H1, fun() -> Each(fun(N) -> Head ! datum(N) end) end),
    do(V, fun() -> Each(fun take_datum/1) end),
    do(H1, fun() -> Each(fun(N) -> ok = coop:relay_data(Head, datum(N)) end) end),
    do(V, fun() -> Each(fun take_datum/1) end),
    do(V, fun() -> ok = coop:stop(Head) end).

%% The very next message is that one.
take_datum(N) ->
    Datum = datum(N),
    receive
        Datum -> ok;
        {M, _} when is_integer(M) -> exit({out_of_order, M, instead_of, N})
    after ?LIMIT -> exit({waited_in_vain_for, N})
    end.

each_node_s_order_is_kept_among_the_others(Config) ->
    Vms = [V | _] = [vm(Name, Config) || Name <- [v, h1, h2]],
    Head = start_same(V, #{receiver => maps:get(agent, V)}),
    Count = 200,
    Self = self(),
    Senders = [
        spawn_link(fun() ->
            Node = maps:get(node, Vm),
            peer:call(maps:get(peer, Vm), lists, foreach, [
                fun(N) -> ok = coop:relay_data(Head, {Node, datum(N)}) end, lists:seq(1, Count)
            ], 3 * ?LIMIT),
            Self ! {sent, self()}
        end)
     || Vm <- Vms
    ],
    [receive {sent, Sender} -> ok after 3 * ?LIMIT -> ct:fail(not_sent) end || Sender <- Senders],
    do(V, fun() ->
        Got = esp_test_lib:take(Count * length(Vms)),
        [
            Numbers = [N || {From, {N, _}} <- Got, From =:= Node]
         || Numbers <- [lists:seq(1, Count)], #{node := Node} <- Vms
        ],
        ok = coop:stop(Head)
    end).

%%% Ends of nodes

a_killed_node_is_noconnection_and_the_others_go_on(Config) ->
    [V, H1] = [vm(Name, Config) || Name <- [v, h1]],
    Doomed = start_vm(["-hidden"]),
    Agent = maps:get(agent, Doomed),
    %% its own, one it is linked to, one that sends to it, one that waits for it
    Own = start_same(Doomed, #{}),
    Linked = start_same(V, #{}),
    do(Doomed, fun() -> link(Linked) end),
    Sends = start_same(V, #{receiver => Agent}),
    Waits = do(V, fun() ->
        T = coop_flow:pipeline([coop:native(talk, talks, talk, #{})]),
        {ok, Coop} = coop:start_link(T, #{node => ?C_NODE, receiver => self(), tag => said}),
        ok = coop:relay_data(Coop, {call, Agent, no_answer}),
        Coop
    end),
    do(Doomed, fun() ->
        receive
            {'$gen_call', _, no_answer} -> ok
        after ?LIMIT -> exit(not_called)
        end,
        _ = monitor(process, Sends),
        ok
    end),
    Bystander = start_same(H1, #{receiver => maps:get(agent, H1)}),
    Refs = do(H1, fun() -> [monitor(process, Head) || Head <- [Own, Linked]] end),
    [] = heard(H1),
    [] = heard(Doomed),
    Node = kill_vm(Doomed),
    Downs = take(H1, 2),
    Refs = [Ref || Wanted <- Refs, {'DOWN', Ref, process, _, noconnection} <- Downs, Ref =:= Wanted],
    %% whom it was linked to, and the call, hear the same
    Heard = take(V, 2),
    [_] = [x || {'EXIT', Head, noconnection} <- Heard, Head =:= Linked],
    [_] = [x || {said, {error, noconnection, _}} <- Heard],
    false = lists:member(Node, do(V, fun() -> erpc:call(?C_NODE, erlang, nodes, [connected]) end)),
    %% results for it are dropped, and their co-op goes on
    do(V, fun() ->
        [ok = coop:relay_data(Sends, N) || N <- lists:seq(1, 3_000)],
        ok = coop:flush(Sends, ?LIMIT),
        [ok = coop:stop(Coop) || Coop <- [Sends, Waits]]
    end),
    do(H1, fun() ->
        Bystander ! still_here,
        [still_here] = esp_test_lib:take(1),
        ok = coop:stop(Bystander)
    end).

%% Same name, another life: what the first left does not reach the second.
a_node_that_comes_back_is_another(Config) ->
    V = vm(v, Config),
    Name = 'nd_back@127.0.0.1',
    Head = start_same(V, #{receiver => none}),
    First = esp_test_dist:dial(c_node(Config), Name, #{creation => 5}),
    Old = esp_test_dist:pid(First, 9),
    ok = esp_test_dist:send(First, {1, Old, Head}),
    do(V, fun() -> unlink(Head) end),
    [] = esp_test_dist:stays(First),
    Ref = do(V, fun() -> monitor(process, Head) end),
    [] = heard(V),
    Second = esp_test_dist:dial(c_node(Config), Name, #{creation => 6}),
    ok = esp_test_dist:await_closed(First),
    [{'DOWN', Ref, process, Head, noconnection}] = take(V, 1),
    %% nothing was sent to the new one on behalf of the old
    [] = esp_test_dist:stays(Second),
    esp_test_dist:close(Second).

a_disconnect_breaks_what_crosses_it_only(Config) ->
    [V, H1, H2] = [vm(Name, Config) || Name <- [v, h1, h2]],
    Head = start_same(V, #{receiver => maps:get(agent, H1)}),
    Ref = do(H2, fun() -> monitor(process, Head) end),
    [] = heard(H2),
    do(H2, fun() -> true = erlang:disconnect_node(?C_NODE) end),
    [{'DOWN', Ref, process, Head, noconnection}] = take(H2, 1),
    %% it comes back by sending, the co-op never noticed
    do(H2, fun() -> ok = coop:relay_data(Head, back) end),
    [back] = take(H1, 1),
    [] = heard(V),
    do(V, fun() -> ok = coop:stop(Head) end).

c_node(Config) -> proplists:get_value(c_node, Config).

%%% Ends of the C-node and of epmd

creation(Pid) ->
    External = term_to_binary(Pid),
    binary:decode_unsigned(binary:part(External, byte_size(External), -4)).

a_restarted_c_node_has_a_new_creation_and_stale_pids_are_noproc(Config) ->
    H1 = vm(h1, Config),
    Name = 'nd_again@127.0.0.1',
    First = #{creation := Then} = esp_test_dist:start_c_node(Name),
    Old = do(H1, fun() -> erpc:call(Name, erlang, whereis, [erlangsp]) end),
    Then = creation(Old),
    Ref = do(H1, fun() -> monitor_node(Name, true), link(Old), monitor(process, Old) end),
    ok = esp_test_dist:kill_c_node(First),
    Lost = lists:sort([{'EXIT', Old, noconnection}, {'DOWN', Ref, process, Old, noconnection}, {nodedown, Name}]),
    Lost = lists:sort(take(H1, 3)),
    Second = #{creation := Now} = esp_test_dist:start_c_node(Name),
    true = Now =/= Then,
    do(H1, fun() ->
        New = erpc:call(Name, erlang, whereis, [erlangsp]),
        Now = creation(New),
        true = New =/= Old,
        monitor_node(Name, true),
        %% dropped
        Old ! hello,
        exit(Old, kill),
        group_leader(self(), Old),
        %% answered
        R = monitor(process, Old),
        [{'DOWN', R, process, Old, noproc}] = esp_test_lib:take(1),
        link(Old),
        [{'EXIT', Old, noproc}] = esp_test_lib:take(1),
        noproc =
            try gen_server:call(Old, plugins) of
                Answer -> {answered, Answer}
            catch
                exit:{Reason, _} -> Reason
            end,
        %% and the connection is the same
        New = erpc:call(Name, erlang, whereis, [erlangsp]),
        [] = esp_test_lib:mailbox(),
        monitor_node(Name, false)
    end),
    esp_test_dist:stop_c_node(Second).

epmd_may_go_and_come_and_the_creation_stays(_) ->
    EpmdPort = free_port(),
    Name = 'nd_epmd@127.0.0.1',
    Epmd = start_epmd(EpmdPort),
    CNode = #{creation := Creation} =
        esp_test_dist:start_c_node(Name, ["--epmd-port", integer_to_list(EpmdPort)]),
    true = is_registered("nd_epmd", EpmdPort),
    Env = [{"ERL_EPMD_PORT", integer_to_list(EpmdPort)}],
    Vm = start_vm(["-hidden"], Env),
    Pid = do(Vm, fun() ->
        P = erpc:call(Name, erlang, whereis, [erlangsp]),
        monitor_node(Name, true),
        P
    end),
    Creation = creation(Pid),
    lists:foreach(
        fun(_) ->
            ok = stop_epmd(get_epmd(Epmd)),
            put(epmd, start_epmd(EpmdPort)),
            eventually(registered_again, fun() -> is_registered("nd_epmd", EpmdPort) end)
        end,
        [1, 2]
    ),
    %% who was connected has noticed nothing
    do(Vm, fun() ->
        Pid = erpc:call(Name, erlang, whereis, [erlangsp]),
        [] = esp_test_lib:mailbox()
    end),
    %% who comes now finds it, and its pids are the same
    Late = start_vm(["-hidden"], Env),
    Pid = do(Late, fun() -> erpc:call(Name, erlang, whereis, [erlangsp]) end),
    [stop_vm(V) || V <- [Vm, Late]],
    esp_test_dist:stop_c_node(CNode),
    eventually(unregistered, fun() -> not is_registered("nd_epmd", EpmdPort) end),
    stop_epmd(get(epmd)).

get_epmd(First) ->
    case get(epmd) of
        undefined -> First;
        Epmd -> Epmd
    end.

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

start_epmd(EpmdPort) ->
    Port = open_port({spawn_executable, os:find_executable("epmd")}, [
        {args, ["-port", integer_to_list(EpmdPort)]},
        {env, [{"ERL_EPMD_ADDRESS", addresses()}]},
        exit_status,
        stderr_to_stdout
    ]),
    eventually(epmd_listens, fun() ->
        case names(EpmdPort) of
            {error, _} = Error -> Error;
            _ -> true
        end
    end),
    Port.

%% Loopback, and what this machine's short name stands for.
addresses() ->
    {ok, Host} = inet:gethostname(),
    case inet:getaddr(Host, inet) of
        {ok, Address} when Address =/= {127, 0, 0, 1} -> "127.0.0.1," ++ inet:ntoa(Address);
        _ -> "127.0.0.1"
    end.

stop_epmd(Port) ->
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    [] = os:cmd("kill -KILL " ++ integer_to_list(OsPid)),
    receive
        {Port, {exit_status, _}} -> ok
    after ?LIMIT -> ct:fail({waited_in_vain_for, end_of_epmd})
    end.

names(EpmdPort) ->
    case gen_tcp:connect({127, 0, 0, 1}, EpmdPort, [binary, {active, false}]) of
        {ok, Socket} ->
            ok = gen_tcp:send(Socket, <<1:16, 110>>),
            Names = all_of(Socket),
            ok = gen_tcp:close(Socket),
            Names;
        {error, _} = Error ->
            Error
    end.

all_of(Socket) ->
    case gen_tcp:recv(Socket, 0, ?LIMIT) of
        {ok, Bytes} -> <<Bytes/binary, (all_of(Socket))/binary>>;
        {error, closed} -> <<>>
    end.

is_registered(Name, EpmdPort) ->
    case names(EpmdPort) of
        {error, _} = Error -> Error;
        Names -> binary:match(Names, list_to_binary(["name ", Name, " at port"])) =/= nomatch
    end.

%%% VMs of every kind, each with a C-node of its own

a_vm_with_a_long_name_has_its_c_node(_) ->
    {Node, true} = run(["-name", "nd_long@127.0.0.1"]),
    'nd_long@127.0.0.1' = Node.

a_vm_with_a_short_name_has_its_c_node(_) ->
    {Node, true} = run(["-sname", "nd_short"]),
    "nd_short@" ++ Host = atom_to_list(Node),
    false = lists:member($., Host).

a_vm_without_a_name_has_its_c_node(_) ->
    {Node, true} = run([]),
    "erlangsp_" ++ _ = atom_to_list(Node).

a_vm_with_a_cookie_of_its_own_has_its_c_node(_) ->
    {_, true} = run(["-name", "nd_cookie@127.0.0.1", "-setcookie", "nobody else's"]).

%% A VM of its own, and an epmd that knows this machine by all its names; what
%% run_and_stop/1 there wrote.
run(Args) ->
    EpmdPort = free_port(),
    Epmd = start_epmd(EpmdPort),
    {ok, Folder} = file:get_cwd(),
    File = filename:join(Folder, lists:concat(["result_", EpmdPort])),
    Path = lists:append([["-pa", P] || P <- code:get_path(), filelib:is_dir(P)]),
    Port = open_port({spawn_executable, os:find_executable("erl")}, [
        {args, ["-noshell", "-noinput" | Args] ++ Path ++ ["-run", "nodes_SUITE", "run_and_stop", File]},
        {env, [{"ERL_EPMD_PORT", integer_to_list(EpmdPort)}, {"ERL_EPMD_ADDRESS", addresses()}]},
        exit_status,
        stderr_to_stdout,
        binary
    ]),
    Output = output(Port, <<>>),
    ok = stop_epmd(Epmd),
    case file:consult(File) of
        {ok, [{Node, Sums, OsPid}]} ->
            Sums = [3, 4, 5],
            eventually(c_node_gone, fun() -> not filelib:is_dir("/proc/" ++ OsPid) end),
            ok = file:delete(File),
            {Node, true};
        Error ->
            ct:fail({Error, Output})
    end.

output(Port, Said) ->
    receive
        {Port, {data, More}} -> output(Port, <<Said/binary, More/binary>>);
        {Port, {exit_status, _}} -> Said
    after 3 * ?LIMIT ->
        {os_pid, OsPid} = erlang:port_info(Port, os_pid),
        _ = os:cmd("kill -KILL " ++ integer_to_list(OsPid)),
        ct:fail({waited_in_vain_for, end_of_vm, Said})
    end.

run_and_stop([File]) ->
    {ok, _} = application:ensure_all_started(erlangsp),
    {ok, CNode} = esp_node:await(esp, ?LIMIT),
    ok = esp_node:load_plugin(esp, esp_test_lib:plugin()),
    T = coop_flow:pipeline([coop:native(N, sums, plus1, #{}) || N <- [a, b]]),
    {ok, Coop} = coop:start_link(T, #{receiver => self()}),
    [ok = coop:relay_data(Coop, N) || N <- [1, 2, 3]],
    Sums = esp_test_lib:take(3),
    OsPid = erpc:call(CNode, os, getpid, []),
    ok = file:write_file(File, io_lib:format("~tp.~n", [{node(), Sums, OsPid}])),
    init:stop().
