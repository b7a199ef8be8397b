%% What observer and etop ask of a node, asked of a C-node and, for the shape of
%% the answers, of an Erlang node (protocol.md, section 14). etop is run as it is;
%% observer's windows need a display, so its calls are made here in its stead.
-module(observer_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([init_per_testcase/2, end_per_testcase/2]).
-export([keeps_wall_time/1, is_client/2]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, take/1, down/1, pid/2, stop_linked/1]).

-define(C_NODE, t_observer).
-define(LIMIT, 10_000).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [
        %% what is known of the node
        the_system_tab_has_what_it_has_of_a_beam,
        items_of_system_info_have_their_shapes,
        items_of_statistics_have_their_shapes,
        memory_is_that_of_the_os_process,
        counters_only_grow,
        a_busy_worker_is_seen,
        the_allocators_add_up,
        the_empty_tabs_are_those_of_a_node_without,
        modules_say_what_they_have,
        %% processes
        the_processes_tab_has_all_processes,
        the_state_page_is_there_for_every_process,
        items_of_other_releases_are_there,
        %% load charts
        stats_come_until_a_message_does,
        stats_end_with_their_client,
        stats_at_odd_intervals_do_no_harm,
        %% applications
        the_application_is_that_of_the_release,
        a_co_op_is_a_tree,
        edges_that_meet_are_drawn_across,
        what_a_task_has_started_is_below_it,
        the_nodes_of_a_head_on_a_vm_are_below_their_kill_switch,
        a_change_is_delivered_and_nothing_else,
        the_tree_ends_with_its_client,
        odd_requests_for_the_tree_do_no_harm,
        %% etop
        etop_prints,
        etop_prints_without_tracing,
        what_etop_collects_is_etops_record,
        other_tracers_are_refused,
        odd_relays_do_no_harm,
        %% and what no tool asks for
        bad_input_gets_what_a_beam_would_answer
    ].

init_per_suite(Config) ->
    CNode = esp_test_c_node:start(?C_NODE),
    {Peer, Node} = esp_test_c_node:start_peer(?MODULE),
    [{started, CNode}, {peer, {Peer, Node}}, {oracle, Node} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop_peer(proplists:get_value(peer, Config)),
    esp_test_c_node:stop(proplists:get_value(started, Config)).

init_per_testcase(_, Config) ->
    [{before, esp_test_c_node:processes(?C_NODE)} | Config].

%% No process that was made for a tool outlives it.
end_per_testcase(_, Config) ->
    esp_test_c_node:settled(?C_NODE, proplists:get_value(before, Config)).

c_node() -> esp_node:node(?C_NODE).

ask(Function, Args) -> ask(observer_backend, Function, Args).

ask(Module, Function, Args) -> rpc:call(c_node(), Module, Function, Args).

oracle(Config) -> proplists:get_value(oracle, Config).

start(Nodes) when is_list(Nodes) -> start(coop_flow:pipeline(Nodes));
start(Template) -> start(Template, #{}).

start(Template, Options) ->
    process_flag(trap_exit, true),
    {ok, Coop} = coop:start_link(
        Template, maps:merge(#{node => ?C_NODE, receiver => self()}, Options)
    ),
    Coop.

same(Name) -> coop:native(Name, sums, same, #{}).

%% What a value is made of, as far as whoever shows it cares.
type(V) when is_boolean(V) -> boolean;
type(V) when is_atom(V) -> atom;
type(V) when is_integer(V) -> integer;
type(V) when is_pid(V) -> pid;
%% of max_heap_size since OTP 27: it is as a node of OTP 25
type(V) when is_map(V) -> {map, lists:sort(maps:keys(V) -- [include_shared_binaries])};
type(V) when is_tuple(V) -> list_to_tuple([type(E) || E <- tuple_to_list(V)]);
type([]) -> list;
type(V) when is_list(V) ->
    case lists:all(fun is_integer/1, V) of
        true -> list;
        false -> lists:usort([type(E) || E <- V])
    end.

%%% The node

the_system_tab_has_what_it_has_of_a_beam(Config) ->
    Beams = rpc:call(oracle(Config), observer_backend, sys_info, []),
    Ours = ask(sys_info, []),
    Rest = [alloc_info, system_architecture],
    Shape = fun(Info) -> [{K, type(V)} || {K, V} <- Info, not lists:member(K, Rest)] end,
    {same, [], []} = {same, Shape(Beams) -- Shape(Ours), Shape(Ours) -- Shape(Beams)},
    true = [K || {K, _} <- Beams] =:= [K || {K, _} <- Ours],
    [true = lists:keymember(K, 1, Ours) || K <- Rest],
    %% observer shows each count as a part of its limit
    [
        true = 0 =< proplists:get_value(C, Ours) andalso
            proplists:get_value(C, Ours) =< proplists:get_value(L, Ours) andalso
            0 < proplists:get_value(L, Ours)
     || {C, L} <- [
            {atom_count, atom_limit}, {process_count, process_limit},
            {port_count, port_limit}, {ets_count, ets_limit}
        ]
    ],
    true = proplists:get_value(process_count, Ours) >= 3,
    "25" = proplists:get_value(otp_release, Ours).

items_of_system_info_have_their_shapes(Config) ->
    Ask = fun(Node, Item) -> rpc:call(Node, erlang, system_info, [Item]) end,
    Items = [
        alloc_util_allocators, atom_count, atom_limit, build_type, compat_rel, creation,
        debug_compiled, dirty_cpu_schedulers, dirty_cpu_schedulers_online, dirty_io_schedulers,
        dist_buf_busy_limit, dynamic_trace, dynamic_trace_probes, emu_type, ets_count, ets_limit,
        fullsweep_after, garbage_collection, kernel_poll, logical_processors,
        logical_processors_available, logical_processors_online, machine, max_heap_size,
        message_queue_data, min_bin_vheap_size, min_heap_size, modified_timing_level,
        multi_scheduling, multi_scheduling_blockers, normal_multi_scheduling_blockers, otp_release,
        port_count, port_limit, port_parallelism, process_count, process_limit,
        scheduler_bind_type, schedulers, schedulers_online, smp_support, start_time,
        system_architecture, system_version, thread_pool_size, threads, trace_control_word,
        version, wordsize, {wordsize, internal}, {wordsize, external}
    ],
    [
        {Item, Type, Type} = {Item, type(Ask(oracle(Config), Item)), type(Ask(c_node(), Item))}
     || Item <- Items
    ],
    Workers = ask(erlang, system_info, [schedulers]),
    Workers = length(ask(erlang, statistics, [scheduler_wall_time])),
    true = Workers =< ask(erlang, system_info, [logical_processors]).

items_of_statistics_have_their_shapes(Config) ->
    Keeper = spawn_link(oracle(Config), ?MODULE, keeps_wall_time, [self()]),
    receive
        {keeps, Keeper} -> ok
    after ?LIMIT -> ct:fail(no_wall_time)
    end,
    Ask = fun(Node, Item) -> rpc:call(Node, erlang, statistics, [Item]) end,
    [
        {Item, Type, Type} = {Item, type(Ask(oracle(Config), Item)), type(Ask(c_node(), Item))}
     || Item <- [
            active_tasks, active_tasks_all, context_switches, exact_reductions,
            garbage_collection, io, reductions, run_queue, run_queue_lengths,
            run_queue_lengths_all, runtime, scheduler_wall_time, scheduler_wall_time_all,
            total_active_tasks, total_active_tasks_all, total_run_queue_lengths,
            total_run_queue_lengths_all, wall_clock
        ]
    ],
    unlink(Keeper),
    Keeper ! stop,
    %% the second of a pair is since the last call
    {W1, _} = ask(erlang, statistics, [wall_clock]),
    {W2, Since} = ask(erlang, statistics, [wall_clock]),
    Since = W2 - W1.

%% The flag is its process's.
keeps_wall_time(Parent) ->
    _ = erlang:system_flag(scheduler_wall_time, true),
    Parent ! {keeps, self()},
    receive
        stop -> ok
    end.

memory_is_that_of_the_os_process(_) ->
    Total = ask(erlang, memory, [total]),
    {ok, Statm} = file:read_file("/proc/" ++ ask(os, getpid, []) ++ "/statm"),
    [_, Resident | _] = binary:split(Statm, <<" ">>, [global]),
    Bytes = binary_to_integer(Resident) * 4096,
    true = Total > Bytes div 2 andalso Total < Bytes * 2,
    Memory = ask(erlang, memory, []),
    {total, T} = lists:keyfind(total, 1, Memory),
    {processes, P} = lists:keyfind(processes, 1, Memory),
    {system, S} = lists:keyfind(system, 1, Memory),
    T = P + S,
    [{total, _}, {atom, Atoms}] = ask(erlang, memory, [[total, atom]]),
    true = Atoms > 0.

%% Those of a connection that has gone stay in the sum.
counters_only_grow(Config) ->
    Io = fun() -> ask(erlang, statistics, [io]) end,
    {{input, I1}, {output, O1}} = Io(),
    pong = rpc:call(oracle(Config), net_adm, ping, [c_node()]),
    Binary = binary:copy(<<0>>, 200_000),
    Binary = rpc:call(oracle(Config), ?MODULE, echoed, [c_node(), Binary]),
    {{input, I2}, {output, O2}} = Io(),
    true = I2 >= I1 + 200_000 andalso O2 >= O1 + 200_000,
    true = rpc:call(oracle(Config), erlang, disconnect_node, [c_node()]),
    eventually(gone, fun() ->
        not lists:member(oracle(Config), ask(erlang, nodes, []))
    end),
    {{input, I3}, {output, O3}} = Io(),
    true = I3 >= I2 andalso O3 >= O2,
    {R1, _} = ask(erlang, statistics, [reductions]),
    {R2, _} = ask(erlang, statistics, [reductions]),
    true = R2 > R1.

%% There and back, in the stack of an error.
echoed(CNode, Binary) ->
    {badrpc, {'EXIT', {undef, [{nope, nope, [Back], []}]}}} =
        rpc:call(CNode, nope, nope, [Binary]),
    Back.

a_busy_worker_is_seen(_) ->
    Coop = start([coop:native(a, spins, spin, #{})]),
    Sum = fun() ->
        lists:sum([A || {_, A, _} <- ask(erlang, statistics, [scheduler_wall_time])])
    end,
    Before = Sum(),
    ok = coop:relay_data(Coop, {spin, self(), 3_000}),
    [{spinning, _}] = take(1),
    %% the kernel's clock, in ns
    eventually(busy, fun() -> Sum() - Before > 50_000_000 end),
    [{spin, _, 3_000}] = take(1),
    [true = A =< T || {_, A, T} <- ask(erlang, statistics, [scheduler_wall_time_all])],
    stop_linked(Coop).

%% As observer_alloc_wx sums them up, which wants at least one.
the_allocators_add_up(_) ->
    [_ | _] = Info = proplists:get_value(alloc_info, ask(sys_info, [])),
    [
        begin
            true = is_atom(Name),
            [
                [
                    true = is_integer(C) andalso is_integer(B) andalso 0 =< B andalso B =< C
                 || {Kind, [{blocks, [{_, [{size, B, _, _}]}]}, {carriers_size, C, _, _}]} <- Data,
                    lists:member(Kind, [mbcs, sbcs])
                ]
             || {instance, 0, [_, _] = Data} <- Instances
            ]
        end
     || {Name, [_] = Instances} <- Info
    ],
    Names = [Name || {Name, _} <- Info],
    Names = ask(erlang, system_info, [alloc_util_allocators]),
    [{instance, 0, _}] = ask(erlang, system_info, [{allocator_sizes, hd(Names)}]).

the_empty_tabs_are_those_of_a_node_without(Config) ->
    [] = ask(get_port_list, []),
    [] = ask(get_socket_list, []),
    Keys = fun(Node) -> [K || {K, _} <- rpc:call(Node, observer_backend, socket_info, [])] end,
    Same = lists:sort(Keys(oracle(Config))),
    Same = lists:sort(Keys(c_node())),
    [] = ask(get_table_list, [ets, [{sys_hidden, true}, {unread_hidden, true}]]),
    {error, "Mnesia is not running on: " ++ _} = ask(get_table_list, [mnesia, []]),
    {ok, Vsn} = rpc:call(oracle(Config), observer_backend, vsn, []),
    {ok, [_ | _] = OurVsn} = ask(vsn, []),
    true = Vsn =:= OurVsn orelse erlang:system_info(otp_release) > "25",
    [true = ask(erlang, function_exported, [observer_backend, F, A])
     || {F, A} <- [{procs_info, 1}, {get_port_list, 0}, {get_socket_list, 0}]],
    {module, _} = ask(code, ensure_loaded, [observer_backend]),
    0 = ask(erlang, system_info, [dirty_cpu_schedulers]),
    Pid = ask(get_table, [self(), gone, ets]),
    receive
        {Pid, '$end_of_table'} -> ok
    after ?LIMIT -> ct:fail(no_end_of_table)
    end,
    %% Log View's questions
    {error, _} = rpc:block_call(c_node(), code, ensure_loaded, [rb]),
    false = rpc:block_call(c_node(), erlang, function_exported, [rb, log_list, 0]).

modules_say_what_they_have(Config) ->
    Loaded = ask(code, all_loaded, []),
    [
        begin
            true = File =:= preloaded orelse filelib:is_regular(File),
            {module, M} = ask(code, ensure_loaded, [M]),
            {file, File} = ask(code, is_loaded, [M]),
            Functions = ask(M, module_info, [functions]),
            Functions = ask(M, module_info, [exports]),
            [true = ask(erlang, function_exported, [M, F, A]) || {F, A} <- Functions],
            true = lists:member({module_info, 1}, Functions),
            Keys = [K || {K, _} <- rpc:call(oracle(Config), lists, module_info, [])],
            Keys = [K || {K, _} <- ask(M, module_info, [])],
            M = ask(M, module_info, [module])
        end
     || {M, File} <- Loaded
    ],
    [true = lists:keymember(M, 1, Loaded) || M <- [erlang, observer_backend, sums, coop_head, rex]],
    {sums, "/" ++ _} = lists:keyfind(sums, 1, Loaded),
    [{vsn, ["1.0.0"]}] = ask(sums, module_info, [attributes]),
    true = lists:member({node, 0}, ask(erlang, module_info, [functions])),
    %% of a plugin that exposes functions, whose module has another name
    {geometry, "/" ++ _} = lists:keyfind(geometry, 1, Loaded).

%%% Processes

the_processes_tab_has_all_processes(_) ->
    Coop = start([same(a), same(b)]),
    CNode = c_node(),
    Pid = spawn_link(CNode, observer_backend, procs_info, [self()]),
    Infos =
        receive
            {procs_info, Pid, List} -> List
        after ?LIMIT -> ct:fail(no_procs_info)
        end,
    receive
        {'EXIT', Pid, normal} -> ok
    after ?LIMIT -> ct:fail(not_ended)
    end,
    Pids = [element(2, I) || I <- Infos],
    [] = esp_test_lib:pids(Coop) -- Pids,
    false = lists:member(Pid, Pids),
    [
        begin
            {etop_proc_info, P, Memory, Reductions, Name, 0, {_, _, _}, Queue} = Info,
            true = is_pid(P) andalso Memory > 0 andalso Reductions >= 0 andalso Queue >= 0,
            true = is_atom(Name) orelse tuple_size(Name) =:= 3
        end
     || Info <- Infos
    ],
    {_, _, _, _, rex, _, _, _} = lists:keyfind(ask(erlang, whereis, [rex]), 2, Infos),
    {_, _, _, _, {sums, same, 2}, _, _, _} = lists:keyfind(pid(Coop, a), 2, Infos),
    stop_linked(Coop).

%% As observer_procinfo fetches it.
the_state_page_is_there_for_every_process(_) ->
    Coop = start([same(a)]),
    Servers = [ask(erlang, whereis, [N]) || N <- [rex, net_kernel, erlangsp, logger_proxy]],
    [
        begin
            {M, _, _} = ask(proc_lib, translate_initial_call, [Pid]),
            true = M =/= proc_lib,
            false = lists:keyfind(behaviour, 1, ask(M, module_info, [attributes])),
            {status, Pid, {module, _}, [_, running, _, _, Misc]} =
                ask(sys, get_status, [Pid, ?LIMIT]),
            [{header, _}, {data, [_ | _]}, {data, [_ | _]} | _] = Misc
        end
     || Pid <- Servers ++ esp_test_lib:pids(Coop)
    ],
    %% one that answers nothing
    Call = erpc:send_request(c_node(), timer, sleep, [infinity]),
    eventually(asleep, fun() -> sleepers() =/= [] end),
    [Sleeper] = sleepers(),
    {proc_lib, init_p, 5} = ask(proc_lib, translate_initial_call, [Sleeper]),
    {badrpc, {'EXIT', {timeout, {sys, get_status, [Sleeper, 50]}}}} =
        ask(sys, get_status, [Sleeper, 50]),
    exit(Sleeper, kill),
    try erpc:receive_response(Call, ?LIMIT) of
        _ -> ct:fail(answered)
    catch
        exit:{signal, killed} -> ok
    end,
    stop_linked(Coop).

sleepers() ->
    [
        P
     || P <- ask(erlang, processes, []),
        {current_function, {timer, sleep, 1}} =:= ask(erlang, process_info, [P, current_function])
    ].

items_of_other_releases_are_there(_) ->
    Rex = ask(erlang, whereis, [rex]),
    Ask = fun(Item) -> ask(erlang, process_info, [Rex, Item]) end,
    {label, undefined} = Ask(label),
    {async_dist, false} = Ask(async_dist),
    {{dictionary, nope}, undefined} = Ask({dictionary, nope}),
    {{dictionary, '$initial_call'}, {rex, init, 1}} = Ask({dictionary, '$initial_call'}),
    [{{dictionary, '$ancestors'}, []}, {status, _}] = Ask([{dictionary, '$ancestors'}, status]).

%%% Load charts

fetch_stats(Client, Ms) -> spawn_link(c_node(), observer_backend, fetch_stats, [Client, Ms]).

stats() ->
    receive
        {stats, 1, Times, {{input, I}, {output, O}}, Memory} -> {Times, I, O, Memory}
    after ?LIMIT -> ct:fail(no_stats)
    end.

stats_come_until_a_message_does(_) ->
    process_flag(trap_exit, true),
    Pid = fetch_stats(self(), 20),
    {T1, I1, O1, Memory} = stats(),
    {T2, I2, O2, _} = stats(),
    true = I2 >= I1 andalso O2 > O1,
    [{total, _} | _] = Memory,
    [
        true = Id1 =:= Id2 andalso A2 >= A1 andalso Total2 > Total1
     || {{Id1, A1, Total1}, {Id2, A2, Total2}} <- lists:zip(lists:sort(T1), lists:sort(T2))
    ],
    Pid ! exit,
    ended(Pid).

%% Linked to it or not.
stats_end_with_their_client(_) ->
    [
        begin
            {Client, Ref} = spawn_monitor(?MODULE, is_client, [self(), Spawn]),
            Pid =
                receive
                    {Client, P} -> P
                after ?LIMIT -> ct:fail(no_client)
                end,
            exit(Client, Reason),
            Reason = down(Ref),
            Gone = monitor(process, Pid),
            true = lists:member(down(Gone), [normal, noproc])
        end
     || Spawn <- [spawn_link, spawn], Reason <- [shutdown, boom]
    ].

is_client(Parent, Spawn) ->
    Pid = erlang:Spawn(c_node(), observer_backend, fetch_stats, [self(), 10]),
    receive
        {stats, 1, _, _, _} -> Parent ! {self(), Pid}
    end,
    receive
        stop -> ok
    end.

stats_at_odd_intervals_do_no_harm(_) ->
    process_flag(trap_exit, true),
    [
        begin
            Pid = fetch_stats(self(), Bad),
            receive
                {'EXIT', Pid, {timeout_value, _}} -> ok
            after ?LIMIT -> ct:fail({not_ended, Bad})
            end
        end
     || Bad <- [-1, 1 bsl 32, 1 bsl 100, 0.5, soon, "10", {}]
    ],
    Never = fetch_stats(self(), infinity),
    Later = fetch_stats(self(), (1 bsl 32) - 1),
    Often = fetch_stats(self(), 0),
    _ = stats(),
    _ = stats(),
    [P ! exit || P <- [Never, Later, Often]],
    [ended(P) || P <- [Never, Later, Often]],
    %% nobody to tell
    {Dead, Ref} = spawn_monitor(fun() -> ok end),
    normal = down(Ref),
    ended(fetch_stats(Dead, 10)),
    [
        begin
            Pid = fetch_stats(Bad, 10),
            receive
                {'EXIT', Pid, Reason} when Reason =/= normal -> ok
            after ?LIMIT -> ct:fail({not_ended, Bad})
            end
        end
     || Bad <- [1, "self", {a, b, c}, #{}]
    ],
    ended(fetch_stats(nobody, 10)),
    ended(fetch_stats({nobody, node()}, 10)),
    _ = flush().

ended(Pid) ->
    receive
        {'EXIT', Pid, normal} -> ok
    after ?LIMIT -> ct:fail({not_ended, Pid, flush()})
    end.

flush() -> esp_test_lib:mailbox().

%%% Applications

appmon() ->
    process_flag(trap_exit, true),
    {ok, Pid} = appmon_info:start_link(c_node(), self(), []),
    Pid.

app(Pid) ->
    appmon_info:app(Pid, erlangsp, true, []),
    app_of(Pid).

app_of(Pid) ->
    receive
        {delivery, Pid, app, erlangsp, Tree} -> Tree
    after ?LIMIT -> ct:fail(no_delivery)
    end.

%% What observer's not_active does.
leave(Pid) ->
    exit(Pid, normal),
    ended(Pid).

%% Children by parent, as pids.
below({_, Names, Links, _}, Pid) ->
    Pids = maps:from_list([{Text, P} || {P, Text} <- Names]),
    [maps:get(C, Pids) || {P, C} <- Links, maps:get(P, Pids) =:= Pid].

the_application_is_that_of_the_release(_) ->
    ok = application:ensure_started(erlangsp),
    {ok, Vsn} = application:get_key(erlangsp, vsn),
    {ok, Description} = application:get_key(erlangsp, description),
    App = {erlangsp, Description, Vsn},
    [App] = ask(application, which_applications, []),
    [App] = ask(application, which_applications, [5000]),
    Pid = appmon(),
    appmon_info:app_ctrl(Pid, c_node(), true, []),
    Service = ask(erlang, whereis, [erlangsp]),
    receive
        {delivery, Pid, app_ctrl, _, Apps} -> [{Service, erlangsp, App}] = Apps
    after ?LIMIT -> ct:fail(no_delivery)
    end,
    appmon_info:app(Pid, no_such_app, true, []),
    receive
        {delivery, Pid, app, no_such_app, {[], [], [], []}} -> ok
    after ?LIMIT -> ct:fail(no_delivery)
    end,
    leave(Pid).

a_co_op_is_a_tree(_) ->
    Coop = start([same(a), same('größe'), same('λ')]),
    Head = coop:head(Coop),
    #{switches := [Switch]} = coop:info(Coop),
    [A, B, C] = [pid(Coop, N) || N <- [a, 'größe', 'λ']],
    Pid = appmon(),
    Tree = {Root, Names, Links, []} = app(Pid),
    "erlangsp" = Root,
    Service = ask(erlang, whereis, [erlangsp]),
    {Service, Root} = lists:keyfind(Service, 1, Names),
    [] = [Head] -- below(Tree, Service),
    [] = [ask(erlang, whereis, [N]) || N <- [rex, net_kernel]] -- below(Tree, Service),
    [Switch, A] = below(Tree, Head),
    [B] = below(Tree, A),
    [C] = below(Tree, B),
    [] = below(Tree, C),
    %% each once, under a text of its own
    Once = lists:usort(Names),
    true = length(Once) =:= length(Names),
    true = length(lists:usort([Text || {_, Text} <- Names])) =:= length(Names),
    true = length(Links) =:= length(Names) - 1,
    {A, "a <" ++ _} = lists:keyfind(A, 1, Names),
    {B, "größe <" ++ _} = lists:keyfind(B, 1, Names),
    {C, "λ <" ++ _} = lists:keyfind(C, 1, Names),
    {Head, "head <" ++ _} = lists:keyfind(Head, 1, Names),
    leave(Pid),
    stop_linked(Coop).

edges_that_meet_are_drawn_across(_) ->
    {ok, Template} = template(
        [same(a), same(b), same(c), same(d)],
        [{a, b}, {a, c}, {b, d}, {c, d}]
    ),
    Coop = start(Template),
    [A, B, C, D] = [pid(Coop, N) || N <- [a, b, c, d]],
    Pid = appmon(),
    Tree = {_, Names, _, Across} = app(Pid),
    [B, C] = below(Tree, A),
    [D] = below(Tree, B),
    [] = below(Tree, C),
    Text = fun(P) -> element(2, lists:keyfind(P, 1, Names)) end,
    [{From, To}] = Across,
    {From, To} = {Text(C), Text(D)},
    leave(Pid),
    stop_linked(Coop).

template(Nodes, Edges) ->
    case coop_flow:graph(Nodes, Edges) of
        {error, _} = Error -> Error;
        Template -> {ok, Template}
    end.

what_a_task_has_started_is_below_it(_) ->
    Coop = start([coop:native(a, crew, boss, #{args => undefined}), same(b)]),
    A = pid(Coop, a),
    Late = started(Coop, first),
    Later = started(Coop, second),
    Pid = appmon(),
    Tree = {_, Names, _, []} = app(Pid),
    [_, Late, Later] = below(Tree, A),
    {Late, "first <" ++ _} = lists:keyfind(Late, 1, Names),
    leave(Pid),
    stop_linked(Coop).

started(Coop, Name) ->
    ok = coop:relay_data(Coop, {start, self(), Name, hand, undefined}),
    receive
        {started, {ok, Late}} -> Late
    after ?LIMIT -> ct:fail(not_started)
    end.

the_nodes_of_a_head_on_a_vm_are_below_their_kill_switch(_) ->
    Coop = start([coop:task(v, fun(S, D) -> {S, D} end, #{}), same(n)]),
    N = pid(Coop, n),
    #{switches := Switches} = coop:info(Coop),
    [Switch] = [S || S <- Switches, node(S) =:= c_node()],
    Pid = appmon(),
    Tree = app(Pid),
    case node(coop:head(Coop)) =:= c_node() of
        true -> ct:fail(head_is_native);
        false -> [N] = below(Tree, Switch)
    end,
    leave(Pid),
    stop_linked(Coop).

a_change_is_delivered_and_nothing_else(_) ->
    Pid = appmon(),
    appmon_info:app(Pid, erlangsp, true, [{timeout, 100}]),
    {_, Before, _, _} = app_of(Pid),
    Coop = start([same(a)]),
    Head = coop:head(Coop),
    eventually(delivered, fun() ->
        {_, After, _, _} = app_of(Pid),
        lists:keymember(Head, 1, After)
    end),
    appmon_info:app(Pid, erlangsp, false, []),
    stop_linked(Coop),
    %% it answers in order: nothing came of the end
    {ok, ok} = gen:call(Pid, '$gen_call', {register_client, self()}, ?LIMIT),
    [] = [D || {delivery, _, _, _, _} = D <- flush()],
    false = lists:keymember(Head, 1, Before),
    leave(Pid).

the_tree_ends_with_its_client(_) ->
    Self = self(),
    [
        begin
            {Client, Ref} = spawn_monitor(fun() ->
                {ok, Pid} = appmon_info:start_link(c_node(), self(), []),
                appmon_info:app(Pid, erlangsp, true, []),
                receive
                    {delivery, Pid, app, erlangsp, _} -> Self ! {self(), Pid}
                end,
                receive
                    stop -> ok
                end
            end),
            Pid =
                receive
                    {Client, P} -> P
                after ?LIMIT -> ct:fail(no_client)
                end,
            exit(Client, Reason),
            Reason = down(Ref),
            Gone = monitor(process, Pid),
            true = lists:member(down(Gone), [normal, noproc])
        end
     || Reason <- [shutdown, boom]
    ],
    %% whoever else asks of it ends, too, and it goes on
    Pid = appmon(),
    %% observer's tab asks for one whenever it is opened
    {ok, Pid} = appmon_info:start_link(c_node(), self(), []),
    {Other, Ref} = spawn_monitor(fun() -> app(Pid) end),
    normal = down(Ref),
    _ = app(Pid),
    true = is_pid(Other),
    leave(Pid),
    %% a client that is dead
    {Dead, Down} = spawn_monitor(fun() -> ok end),
    normal = down(Down),
    {ok, Short} = appmon_info:start_link(c_node(), Dead, []),
    Gone = monitor(process, Short),
    true = lists:member(down(Gone), [normal, noproc]),
    {badrpc, {'EXIT', _}} = ask(appmon_info, start_link2, [self(), no_pid, []]).

odd_requests_for_the_tree_do_no_harm(_) ->
    Pid = appmon(),
    Me = self(),
    [
        gen_server:cast(Pid, Odd)
     || Odd <- [
            status,
            {},
            {Me, app},
            {Me, app, erlangsp, true, no_list},
            {Me, app, erlangsp, true, [a | b]},
            {Me, app, erlangsp, true, [{timeout, -1}]},
            {Me, app, erlangsp, true, [{timeout, 1 bsl 70}]},
            {Me, app, erlangsp, true, [{timeout, soon}]},
            {Me, no_such_command, erlangsp, true, []},
            {Me, load, node(), true, []},
            {Me, pinfo, Me, true, []},
            {no_pid, app, erlangsp, true, []},
            {Me, app, "erlangsp", 'maybe', []},
            {Me, app_ctrl, x, false, []},
            binary:copy(<<0>>, 100_000)
        ]
    ],
    Pid ! {do_it, {app, erlangsp, Me}},
    Pid ! nonsense,
    Pid ! {'EXIT', whereis(init), done},
    Pid ! {'DOWN', make_ref(), process, Me},
    {ok, ok} = gen:call(Pid, '$gen_call', anything, ?LIMIT),
    [] = flush(),
    %% more than anybody looks at
    [
        appmon_info:app(Pid, list_to_atom("app" ++ integer_to_list(I)), true, [])
     || I <- lists:seq(1, 200)
    ],
    {ok, ok} = gen:call(Pid, '$gen_call', anything, ?LIMIT),
    64 = length([D || {delivery, P, app, _, {[], [], [], []}} = D <- flush(), P =:= Pid]),
    leave(Pid).

%%% etop

%% A group leader that keeps what is printed.
printer() ->
    spawn_link(fun() -> printer(<<>>) end).

printer(Text) ->
    receive
        {io_request, From, As, {put_chars, unicode, M, F, A}} ->
            Chars = unicode:characters_to_binary(apply(M, F, A)),
            From ! {io_reply, As, ok},
            printer(<<Text/binary, Chars/binary>>);
        {io_request, From, As, {put_chars, unicode, Chars}} ->
            From ! {io_reply, As, ok},
            printer(<<Text/binary, (unicode:characters_to_binary(Chars))/binary>>);
        {io_request, From, As, getopts} ->
            From ! {io_reply, As, [{binary, true}, {encoding, unicode}]},
            printer(Text);
        {io_request, From, As, _} ->
            From ! {io_reply, As, {error, enotsup}},
            printer(Text);
        {text, From} ->
            From ! {text, self(), Text},
            printer(Text);
        stop ->
            ok
    end.

text(Printer) ->
    Printer ! {text, self()},
    receive
        {text, Printer, Text} -> Text
    after ?LIMIT -> ct:fail(no_text)
    end.

etop(Options) ->
    Printer = printer(),
    {Etop, Ref} = spawn_monitor(fun() ->
        true = group_leader(Printer, self()),
        etop:start([{node, c_node()}, {interval, 30}, {lines, 100} | Options])
    end),
    {Etop, Ref, Printer}.

shows(Printer, What) ->
    eventually({printed, What}, fun() ->
        case binary:match(text(Printer), What) of
            nomatch -> {text(Printer)};
            _ -> true
        end
    end).

etop_prints(_) -> etop_prints_with([{port, free_port()}]).

etop_prints_without_tracing(_) -> etop_prints_with([{tracing, off}, {sort, memory}]).

etop_prints_with(Options) ->
    Coop = start([same(a)]),
    {Etop, Ref, Printer} = etop(Options),
    shows(Printer, atom_to_binary(c_node())),
    shows(Printer, <<"rex">>),
    shows(Printer, <<"sums:same/2">>),
    shows(Printer, <<"Memory:">>),
    %% once more, into a file
    File = filename:join(os:getenv("TMPDIR", "/tmp"), "etop_" ++ os:getpid()),
    _ = file:delete(File),
    {ok, _} = file:open(File, [write]),
    _ = etop:dump(File),
    eventually(dumped, fun() ->
        {ok, Dump} = file:read_file(File),
        binary:match(Dump, <<"coop_head:init/1">>) =/= nomatch
    end),
    ok = file:delete(File),
    stop = etop:stop(),
    ok = wait_for_end(Etop, Ref),
    Printer ! stop,
    stop_linked(Coop).

wait_for_end(Etop, Ref) ->
    receive
        {'DOWN', Ref, process, Etop, normal} -> ok;
        {'DOWN', Ref, process, Etop, Reason} -> ct:fail({etop, Reason})
    after ?LIMIT -> ct:fail(etop_runs)
    end.

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

what_etop_collects_is_etops_record(Config) ->
    process_flag(trap_exit, true),
    Collect = fun(Node) ->
        Pid = spawn_link(Node, observer_backend, etop_collect, [self()]),
        receive
            {Pid, Info} -> Info
        after ?LIMIT -> ct:fail(no_info)
        end
    end,
    Beams = Collect(oracle(Config)),
    Ours = Collect(c_node()),
    %% of a BEAM the first time there is no wall time yet
    {etop_info, Now, N, Wall, Times, Queue, [], Memory, Procs} = Ours,
    true = size(Ours) =:= size(Beams),
    Wall = element(4, Beams),
    N = length(Procs),
    [{_, _, _} | _] = Times,
    true = is_integer(Queue),
    true = [K || {K, _} <- Memory] =:= [K || {K, _} <- element(8, Beams)],
    true = tuple_size(hd(Procs)) =:= tuple_size(hd(element(9, Beams))),
    Clock = fun({M, S, Us}) -> (M * 1_000_000 + S) * 1_000_000 + Us end,
    true = abs(Clock(Now) - Clock(erlang:timestamp())) < 10_000_000,
    _ = flush().

other_tracers_are_refused(_) ->
    process_flag(trap_exit, true),
    [
        begin
            Pid = spawn_link(c_node(), dbg, do_relay, [self(), Tracer]),
            receive
                {started, Pid} -> ok
            after ?LIMIT -> ct:fail(dbg_would_hang)
            end,
            receive
                {'EXIT', Pid, {not_supported, Type}} -> ok
            after ?LIMIT -> ct:fail(not_ended)
            end
        end
     || {Tracer, Type} <- [
            {{module, {m, 0}}, module},
            {{port, dbg:trace_port(file, "/tmp/never")}, port},
            {{port, fun erlang:node/0}, port}
        ]
    ],
    %% of OTP 27 and later
    Pid = spawn_link(c_node(), dbg, do_relay, [session, self(), {module, {m, 0}}]),
    receive
        {started, Pid, _Session} -> ok
    after ?LIMIT -> ct:fail(dbg_would_hang)
    end,
    receive
        {'EXIT', Pid, {not_supported, module}} -> ok
    after ?LIMIT -> ct:fail(not_ended)
    end,
    [] = flush().

odd_relays_do_no_harm(_) ->
    process_flag(trap_exit, true),
    Ends = fun(Args) ->
        Pid = spawn_link(c_node(), dbg, do_relay, Args),
        receive
            {'EXIT', Pid, _} -> ok
        after ?LIMIT -> ct:fail({not_ended, Args})
        end
    end,
    [Ends([self(), Odd]) || Odd <- [1, {}, {port, 1}, {port, <<>>}, [port], {1, 2}]],
    Ends([no_pid, self()]),
    %% one port is for one
    Fun = dbg:trace_port(ip, {free_port(), 100}),
    First = spawn_link(c_node(), dbg, do_relay, [self(), {port, Fun}]),
    receive
        {started, FirstPort} when is_port(FirstPort) -> ok
    after ?LIMIT -> ct:fail(not_started)
    end,
    Ends([self(), {port, Fun}]),
    %% and it ends with who asked for it
    {Client, Ref} = spawn_monitor(fun() ->
        Port = free_port(),
        P = spawn(c_node(), dbg, do_relay, [self(), {port, dbg:trace_port(ip, Port)}]),
        receive
            {started, Started} when is_port(Started) -> exit({port, P, Port})
        end
    end),
    true = is_pid(Client),
    {port, Relay, Port} = down(Ref),
    Gone = monitor(process, Relay),
    true = lists:member(down(Gone), [normal, noproc]),
    {error, econnrefused} = gen_tcp:connect({127, 0, 0, 1}, Port, []),
    unlink(First),
    exit(First, done),
    _ = flush().

%%% What no tool asks for

bad_input_gets_what_a_beam_would_answer(Config) ->
    Dead = fun(Node) ->
        {Pid, Ref} = erlang:spawn_monitor(Node, erlang, node, []),
        true = lists:member(down(Ref), [normal, noproc]),
        Pid
    end,
    Port = fun(Node) ->
        %% no such port
        {pid, P} = {pid, Dead(Node)},
        <<131, 88, Rest/binary>> = term_to_binary(P),
        Size = byte_size(Rest) - 12,
        <<Name:Size/binary, _:64, Creation:32>> = Rest,
        binary_to_term(<<131, 120, Name/binary, 777_777:64, Creation:32>>)
    end,
    Rows = [
        {{M, F, Args}, fun(N) -> rpc:call(N, M, F, [A(N) || A <- Args]) end}
     || {M, F, Args} <- [
            {erlang, process_info, [Dead]},
            {erlang, process_info, [Dead, is(status)]},
            {erlang, process_info, [is(1)]},
            {erlang, port_info, [Port]},
            {erlang, port_info, [Port, is(name)]},
            {erlang, port_info, [is(1)]},
            {erlang, port_info, [is(1), is(name)]},
            {erlang, port_info, [Port, is(nope)]},
            {erlang, system_info, [is(nope)]},
            {erlang, system_info, [is({wordsize, nope})]},
            {erlang, system_info, [is(1)]},
            {erlang, statistics, [is(nope)]},
            {erlang, statistics, [is({a, b})]},
            {erlang, memory, [is(nope)]},
            {erlang, garbage_collect, [Dead]},
            {proc_lib, translate_initial_call, [Dead]},
            {sys, get_status, [Dead, is(200)]},
            {sys, get_status, [is(nobody), is(200)]},
            {sys, get_status, [is(nobody)]},
            {no_such_module, module_info, [is(attributes)]},
            {no_such_module, module_info, []},
            {code, ensure_loaded, [is(no_such_module)]},
            {code, is_loaded, [is(no_such_module)]},
            {code, is_loaded, [is(1)]},
            {observer_backend, get_table_list, [is(nope), is([])]},
            {observer_backend, procs_info, [is(nobody)]},
            {observer_backend, etop_collect, [is(nobody)]},
            {observer_backend, fetch_stats, [is(x), is(y), is(z)]},
            {observer_backend, no_such_function, []}
        ]
    ],
    Wrong = [
        {What, #{erlang => Right, c_node => Ours}}
     || {What, Row} <- Rows,
        Right <- [reason(oracle(Config), Row)],
        Ours <- [reason(c_node(), Row)],
        Right =/= Ours
    ],
    [] = Wrong,
    _ = flush().

is(Value) -> fun(_) -> Value end.

%% Without its stack: what lies beneath a function is not the same.
reason(Node, Row) ->
    case rpc_shapes_SUITE:shape(Node, Row(Node)) of
        {badrpc, {'EXIT', {Reason, [{_, _, _, _} | _]}}} -> {badrpc, Reason};
        Other -> Other
    end.
