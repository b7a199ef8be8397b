%% sys(3) over every kind of process: a gen_server on another VM, which is the
%% oracle, and heads, nodes and kill switches of co-ops in both homes. Idle,
%% busy in a task, and suspended.
-module(sys_SUITE).

-export([all/0, suite/0, groups/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([init_per_group/2, end_per_group/2]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, take/1, mailbox/0, down/1, pid/2]).

-define(C_NODE, t_sys).
-define(LIMIT, 10_000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, G} || G <- [server, native_head, native_node, native_switch,
                         vm_head, vm_node, vm_switch, tasks]].

groups() ->
    Any = of_any(),
    [
        {server, [], Any},
        {native_head, [], Any ++ of_coops() ++ queueing()},
        {native_node, [], Any ++ of_coops() ++ queueing()},
        {native_switch, [], Any ++ of_coops()},
        {vm_head, [], Any ++ of_coops() ++ queueing()},
        {vm_node, [], Any ++ of_coops() ++ queueing()},
        {vm_switch, [], Any ++ of_coops()},
        {tasks, [], [
            {group, native_task},
            {group, vm_task},
            a_state_by_fields_is_a_map,
            a_state_of_its_own_making_may_refuse,
            an_opaque_state_says_so,
            a_function_has_no_state,
            an_opaque_state_is_refused_before_the_fun_runs,
            a_fun_that_makes_no_state_of_the_type_is_refused,
            get_modules_names_the_plugin,
            log_shows_what_goes_in_and_out,
            trace_prints_to_the_group_leader
        ]},
        {native_task, [], of_tasks()},
        {vm_task, [], of_tasks()}
    ].

of_any() ->
    [
        get_state_answers,
        get_status_has_its_parts,
        suspend_and_resume_may_be_repeated,
        statistics_start_and_stop,
        log_starts_and_stops,
        trace_starts_and_stops,
        no_debug_ends_it_all,
        funs_are_installed_and_removed,
        a_file_of_events_is_opened_and_closed,
        bad_requests_are_refused_as_by_a_gen_server,
        change_code_wants_it_suspended,
        a_suspended_process_answers_all_the_same,
        who_asks_from_another_vm_is_answered,
        terminate_ends_it_with_that_reason,
        a_suspended_process_can_be_terminated,
        a_suspended_process_can_be_killed
    ].

of_coops() ->
    [get_modules_in_both_forms, a_plain_exit_message_is_dropped].

queueing() ->
    [data_wait_in_order_while_it_is_suspended].

of_tasks() ->
    [
        the_state_changes_by_a_closure,
        the_state_changes_by_an_external_fun,
        funs_that_fail_leave_the_state,
        funs_run_on_the_callers_node,
        a_blocked_task_answers_after_its_datum,
        a_computing_task_answers_after_its_datum,
        a_busy_task_is_suspended_after_its_datum,
        statistics_count_data,
        an_installed_fun_sees_events_as_of_a_gen_server,
        an_installed_fun_goes_when_it_is_done_or_fails,
        an_installed_fun_runs_on_its_own_node,
        a_file_has_the_events_as_of_a_gen_server
    ].

init_per_suite(Config) ->
    C = esp_test_c_node:start(?C_NODE),
    {_, Node} = Peer = esp_test_c_node:start_peer(asks),
    [{c_node, C}, {peer, Peer}, {peer_node, Node} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop_peer(proplists:get_value(peer, Config)),
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

init_per_group(Group, Config) -> [{kind, Group} | Config].
end_per_group(_, _) -> ok.

%%% What is asked

opts() -> #{node => ?C_NODE, receiver => self()}.

start(Nodes) ->
    process_flag(trap_exit, true),
    {ok, Coop} = coop:start_link(coop_flow:pipeline(Nodes), opts()),
    Coop.

switch_of(Coop) ->
    #{switches := [Switch]} = coop:info(Coop),
    Switch.

native() -> start([coop:native(a, blocks, count, #{}), coop:native(b, sums, same, #{})]).

vm() -> start([vm_counter(a), coop:task(b, fun(S, D) -> {S, D} end, #{})]).

%% The native task `count' of blocks, in Erlang.
vm_counter(Name) ->
    coop:task(
        Name,
        fun
            (#{count := N} = S, {wait, Pid}) ->
                Pid ! {waiting, self()},
                receive
                    {go, Result} -> {S#{count := N + 1}, Result}
                end;
            (#{count := N} = S, {spin, Pid, Ms} = D) ->
                Pid ! {waiting, self()},
                spin(erlang:monotonic_time(millisecond) + Ms),
                {S#{count := N + 1}, D};
            (#{count := N} = S, D) ->
                {S#{count := N + 1}, D}
        end,
        #{init => fun() -> #{count => 0} end}
    ).

spin(Until) ->
    erlang:monotonic_time(millisecond) < Until andalso spin(Until).

%% {Pid asked, its co-op or none}
target(Config) ->
    case proplists:get_value(kind, Config) of
        server ->
            process_flag(trap_exit, true),
            {ok, Pid} = supervision_SUITE:start_server(
                proplists:get_value(peer_node, Config), {self(), x}
            ),
            _ = take(1),
            {Pid, none};
        native_head -> with(native(), fun coop:head/1);
        native_node -> with(native(), fun(C) -> pid(C, a) end);
        native_switch -> with(native(), fun switch_of/1);
        native_task -> with(native(), fun(C) -> pid(C, a) end);
        vm_head -> with(vm(), fun coop:head/1);
        vm_node -> with(vm(), fun(C) -> pid(C, a) end);
        vm_task -> with(vm(), fun(C) -> pid(C, a) end);
        vm_switch -> with(vm(), fun switch_of/1)
    end.

with(Coop, Which) -> {Which(Coop), Coop}.

%% A request as sys makes it, without waiting for the answer.
ask(Pid, Request) ->
    Ref = make_ref(),
    Pid ! {system, {self(), Ref}, Request},
    Ref.

answer(Ref) ->
    receive
        {Ref, Answer} -> Answer
    after ?LIMIT -> ct:fail(no_answer)
    end.

request(Pid, Request) -> answer(ask(Pid, Request)).

works({_, none}) ->
    ok;
works({_, Coop}) ->
    ok = coop:relay_data(Coop, still_works),
    ok = coop:flush(Coop, ?LIMIT),
    true = lists:member(still_works, mailbox()),
    ok.

%%% Any process

get_state_answers(Config) ->
    T = {Pid, _} = target(Config),
    State = sys:get_state(Pid),
    State = sys:get_state(Pid),
    works(T).

get_status_has_its_parts(Config) ->
    T = {Pid, _} = target(Config),
    {status, Pid, {module, Module}, [Dictionary, running, Parent, [], Misc]} = sys:get_status(Pid),
    true = is_atom(Module) andalso is_pid(Parent),
    {'$initial_call', {_, _, _}} = lists:keyfind('$initial_call', 1, Dictionary),
    {'$ancestors', [_ | _]} = lists:keyfind('$ancestors', 1, Dictionary),
    [{header, [_ | _]}] = [H || {header, _} = H <- Misc],
    [_ | _] = [S || {data, Data} <- Misc, {"State", S} <- Data],
    ok = sys:suspend(Pid),
    {status, Pid, {module, Module}, [_, suspended, Parent, [], _]} = sys:get_status(Pid),
    ok = sys:resume(Pid),
    {status, Pid, {module, Module}, [_, running, Parent, [], _]} = sys:get_status(Pid),
    works(T).

suspend_and_resume_may_be_repeated(Config) ->
    T = {Pid, _} = target(Config),
    ok = sys:resume(Pid),
    ok = sys:suspend(Pid),
    ok = sys:suspend(Pid),
    ok = sys:resume(Pid),
    works(T).

statistics_start_and_stop(Config) ->
    T = {Pid, _} = target(Config),
    {ok, no_statistics} = sys:statistics(Pid, get),
    ok = sys:statistics(Pid, true),
    {ok, Figures} = sys:statistics(Pid, get),
    [start_time, current_time, reductions, messages_in, messages_out] = [K || {K, _} <- Figures],
    {{_, _, _}, {_, _, _}} = proplists:get_value(start_time, Figures),
    {status, _, _, [_, _, _, [_ | _], _]} = sys:get_status(Pid),
    ok = sys:statistics(Pid, false),
    {ok, no_statistics} = sys:statistics(Pid, get),
    works(T).

log_starts_and_stops(Config) ->
    T = {Pid, _} = target(Config),
    {ok, []} = sys:log(Pid, get),
    ok = sys:log(Pid, true),
    {ok, []} = sys:log(Pid, get),
    ok = sys:log(Pid, {true, 3}),
    ok = sys:log(Pid, print),
    ok = sys:log(Pid, false),
    {ok, []} = sys:log(Pid, get),
    works(T).

trace_starts_and_stops(Config) ->
    T = {Pid, _} = target(Config),
    ok = sys:trace(Pid, true),
    ok = sys:trace(Pid, false),
    {status, _, _, [_, _, _, [], _]} = sys:get_status(Pid),
    works(T).

no_debug_ends_it_all(Config) ->
    T = {Pid, _} = target(Config),
    ok = sys:statistics(Pid, true),
    ok = sys:log(Pid, true),
    ok = sys:no_debug(Pid),
    {ok, no_statistics} = sys:statistics(Pid, get),
    {status, _, _, [_, _, _, [], _]} = sys:get_status(Pid),
    works(T).

options(Pid) ->
    {status, Pid, _, [_, _, _, Options, _]} = sys:get_status(Pid),
    Options.

funs_are_installed_and_removed(Config) ->
    T = {Pid, _} = target(Config),
    F = fun(S, _Event, _Name) -> S end,
    ok = sys:install(Pid, {F, a}),
    ok = sys:install(Pid, {F, again}),
    [{F, a}] = options(Pid),
    ok = sys:install(Pid, {{an, id}, F, b}),
    ok = sys:install(Pid, {another, F, c}),
    [{another, {F, c}}, {F, a}, {{an, id}, {F, b}}] = lists:sort(options(Pid)),
    ok = sys:remove(Pid, another),
    ok = sys:remove(Pid, no_such),
    ok = sys:remove(Pid, F),
    [{{an, id}, {F, b}}] = options(Pid),
    works(T),
    %% an option of sys's own goes by its name, too
    ok = sys:trace(Pid, true),
    ok = sys:remove(Pid, trace),
    [_] = options(Pid),
    ok = sys:no_debug(Pid),
    [] = options(Pid),
    works(T).

file_of(Config, Name) ->
    filename:join(proplists:get_value(priv_dir, Config), Name).

a_file_of_events_is_opened_and_closed(Config) ->
    T = {Pid, _} = target(Config),
    File = file_of(Config, lists:concat([proplists:get_value(kind, Config), "_events"])),
    ok = sys:log_to_file(Pid, File),
    [{log_to_file, _}] = options(Pid),
    {ok, <<>>} = file:read_file(File),
    ok = sys:log_to_file(Pid, list_to_binary(File)),
    {error, open_file} = sys:log_to_file(Pid, "/no/such/folder/file"),
    [] = options(Pid),
    ok = sys:log_to_file(Pid, File),
    ok = sys:log_to_file(Pid, false),
    [] = options(Pid),
    works(T).

%% What the server on the peer says, to the word.
bad_requests_are_refused_as_by_a_gen_server(Config) ->
    T = {Pid, _} = target(Config),
    {Server, none} = target([{kind, server} | Config]),
    Requests = [
        no_such,
        {no_such, 1},
        {a, tuple, 'of', four},
        [],
        <<"get_state">>,
        {debug, no_such},
        {debug, {no_such, 1}},
        {debug, {trace, 'maybe'}},
        {debug, {statistics, 'maybe'}},
        {debug, {log, 'maybe'}},
        {debug, {log, {true, 0}}},
        {debug, {log, {true, x}}},
        {debug, {log_to_file, "/no/such/folder/file"}},
        {debug, {install, no_pair}},
        {debug, {install, {a, b, c, d}}},
        {debug, {remove, no_such}},
        {change_code, no_such, undefined, []}
    ],
    [
        {Request, Answer} = {Request, request(Pid, Request)}
     || Request <- Requests, Answer <- [request(Server, Request)]
    ],
    works(T).

%% Where there is no new code to change to.
change_code_wants_it_suspended(Config) ->
    T = {Pid, _} = target(Config),
    {error, {unknown_system_msg, {change_code, lists, undefined, []}}} =
        sys:change_code(Pid, lists, undefined, []),
    ok = sys:suspend(Pid),
    ok = sys:change_code(Pid, lists, undefined, []),
    ok = sys:resume(Pid),
    works(T).

a_suspended_process_answers_all_the_same(Config) ->
    T = {Pid, _} = target(Config),
    State = sys:get_state(Pid),
    ok = sys:suspend(Pid),
    case proplists:get_value(kind, Config) of
        Kind when Kind =:= native_head; Kind =:= vm_head; Kind =:= native_switch; Kind =:= vm_switch ->
            %% it says there that it is suspended
            _ = sys:get_state(Pid);
        _ ->
            State = sys:get_state(Pid)
    end,
    ok = sys:statistics(Pid, true),
    {ok, [_ | _]} = sys:statistics(Pid, get),
    ok = sys:log(Pid, true),
    ok = sys:no_debug(Pid),
    {error, {unknown_system_msg, no_such}} = request(Pid, no_such),
    ok = sys:resume(Pid),
    works(T).

who_asks_from_another_vm_is_answered(Config) ->
    T = {Pid, _} = target(Config),
    Peer = proplists:get_value(peer_node, Config),
    [State] = lists:usort([sys:get_state(Pid), erpc:call(Peer, sys, get_state, [Pid])]),
    ok = erpc:call(Peer, sys, suspend, [Pid]),
    {status, Pid, _, [_, suspended | _]} = erpc:call(Peer, sys, get_status, [Pid]),
    ok = erpc:call(Peer, sys, resume, [Pid]),
    State = sys:get_state(Pid),
    works(T).

terminate_ends_it_with_that_reason(Config) ->
    [
        begin
            {Pid, Coop} = target(Config),
            Ref = monitor(process, Pid),
            CoopRef = monitor(process, if Coop =:= none -> Pid; true -> Coop end),
            ok = sys:terminate(Pid, Reason),
            {Reason, Reason} = {Reason, down(Ref)},
            {Reason, Reason} = {Reason, down(CoopRef)},
            _ = mailbox()
        end
     || Reason <- [normal, shutdown, {shutdown, x}, boom, {a, "long", <<"reason">>}]
    ].

a_suspended_process_can_be_terminated(Config) ->
    {Pid, _} = target(Config),
    Ref = monitor(process, Pid),
    ok = sys:suspend(Pid),
    ok = proc_lib:stop(Pid, shutdown, ?LIMIT),
    shutdown = down(Ref).

a_suspended_process_can_be_killed(Config) ->
    {Pid, Coop} = target(Config),
    Ref = monitor(process, Pid),
    CoopRef = monitor(process, if Coop =:= none -> Pid; true -> Coop end),
    ok = sys:suspend(Pid),
    exit(Pid, kill),
    killed = down(Ref),
    killed = down(CoopRef).

%%% Co-ops

get_modules_in_both_forms(Config) ->
    T = {Pid, _} = target(Config),
    esp_test_lib:answers_get_modules(Pid),
    ok = sys:suspend(Pid),
    esp_test_lib:answers_get_modules(Pid),
    ok = sys:resume(Pid),
    works(T).

a_plain_exit_message_is_dropped(Config) ->
    T = {Pid, _} = target(Config),
    esp_test_lib:drops_a_plain_exit_message(Pid),
    works(T).

data_wait_in_order_while_it_is_suspended(Config) ->
    {Pid, Coop} = target(Config),
    ok = sys:suspend(Pid),
    Data = lists:seq(1, 300),
    [ok = coop:relay_data(Coop, D) || D <- Data],
    eventually(all_wait, fun() ->
        #{queue := Queue} = coop_process:ask(Pid, info, ?LIMIT),
        Queue =:= 300 orelse Queue
    end),
    {status, Pid, _, [_, suspended | _]} = sys:get_status(Pid),
    [] = mailbox(),
    ok = sys:resume(Pid),
    ok = coop:flush(Coop, ?LIMIT),
    Data = mailbox().

%%% Tasks

more(#{count := N} = S) -> S#{count := N + 1}.
where(S) -> S#{count := erlang:phash2(node())}.

the_state_changes_by_a_closure(Config) ->
    T = {Pid, _} = target(Config),
    #{count := 0} = sys:get_state(Pid),
    By = 40,
    #{count := 40} = sys:replace_state(Pid, fun(#{count := N} = S) -> S#{count := N + By} end),
    #{count := 40} = sys:get_state(Pid),
    works(T),
    #{count := 41} = sys:get_state(Pid).

the_state_changes_by_an_external_fun(Config) ->
    {Pid, _} = target(Config),
    #{count := 1} = sys:replace_state(Pid, fun ?MODULE:more/1),
    #{count := 2} = sys:replace_state(Pid, fun ?MODULE:more/1),
    #{count := 2} = sys:get_state(Pid).

funs_that_fail_leave_the_state(Config) ->
    T = {Pid, _} = target(Config),
    [
        try sys:replace_state(Pid, Fun) of
            Other -> ct:fail({replaced, Other})
        catch
            %% a process on a VM names its callback there
            error:{callback_failed, _, {Class, Reason}} -> ok
        end
     || {Fun, Class, Reason} <- [
            {fun(_) -> error(because) end, error, because},
            {fun(_) -> exit(because) end, exit, because},
            {fun(_) -> throw(because) end, throw, because},
            {fun ?MODULE:no_such_function/1, error, undef}
        ]
    ],
    #{count := 0} = sys:get_state(Pid),
    works(T).

funs_run_on_the_callers_node(Config) ->
    {Pid, _} = target(Config),
    Peer = proplists:get_value(peer_node, Config),
    %% a process that is on this VM runs them here
    Expected = [erlang:phash2(N) || N <- [Peer, node()], N =:= Peer orelse node(Pid) =:= node()],
    #{count := Hash} = erpc:call(Peer, sys, replace_state, [Pid, fun ?MODULE:where/1]),
    true = lists:member(Hash, Expected).

busy(Pid, Coop, Datum) ->
    ok = coop:relay_data(Coop, Datum),
    receive
        {waiting, Pid} -> ok
    after ?LIMIT -> ct:fail(not_busy)
    end.

a_blocked_task_answers_after_its_datum(Config) ->
    {Pid, Coop} = target(Config),
    busy(Pid, Coop, {wait, self()}),
    State = ask(Pid, get_state),
    Status = ask(Pid, get_status),
    Modules = make_ref(),
    Pid ! {self(), {self(), Modules}, get_modules},
    %% what it is asked after being told is answered no earlier
    Pid ! {go, done},
    #{count := 1} = unwrapped(answer(State)),
    {status, Pid, _, _} = answer(Status),
    [_] = answer(Modules),
    [done] = take(1).

unwrapped({ok, State}) -> State;
unwrapped(State) -> State.

a_computing_task_answers_after_its_datum(Config) ->
    {Pid, Coop} = target(Config),
    busy(Pid, Coop, {spin, self(), 200}),
    ok = coop:relay_data(Coop, next),
    #{count := N} = sys:get_state(Pid),
    true = N >= 1,
    ok = coop:flush(Coop, ?LIMIT),
    #{count := 2} = sys:get_state(Pid),
    [{spin, _, _}, next] = mailbox().

a_busy_task_is_suspended_after_its_datum(Config) ->
    {Pid, Coop} = target(Config),
    busy(Pid, Coop, {wait, self()}),
    [ok = coop:relay_data(Coop, D) || D <- [1, 2, 3]],
    Suspended = ask(Pid, suspend),
    Pid ! {go, done},
    ok = answer(Suspended),
    [done] = take(1),
    #{count := 1} = sys:get_state(Pid),
    eventually(the_rest_waits, fun() ->
        maps:get(queue, coop_process:ask(Pid, info, ?LIMIT)) =:= 3
    end),
    #{count := 1} = sys:get_state(Pid),
    ok = sys:resume(Pid),
    ok = coop:flush(Coop, ?LIMIT),
    [1, 2, 3] = mailbox(),
    #{count := 4} = sys:get_state(Pid).

statistics_count_data(Config) ->
    {Pid, Coop} = target(Config),
    ok = sys:statistics(Pid, true),
    [ok = coop:relay_data(Coop, D) || D <- [1, 2, 3]],
    ok = coop:flush(Coop, ?LIMIT),
    {ok, Figures} = sys:statistics(Pid, get),
    3 = proplists:get_value(messages_in, Figures),
    3 = proplists:get_value(messages_out, Figures),
    true = proplists:get_value(reductions, Figures) > 0.

%% The server on the peer and the process, sent the same.
both(Config) ->
    {Server, none} = target([{kind, server} | Config]),
    {Pid, Coop} = target(Config),
    {Server, Pid, Coop}.

an_installed_fun_sees_events_as_of_a_gen_server(Config) ->
    {Server, Pid, _} = both(Config),
    Self = self(),
    [
        begin
            Tell = fun(N, Event, Name) ->
                Self ! {event, N, Event, Name},
                N + 1
            end,
            ok = sys:install(P, {Tell, 1}),
            [P ! {number, N} || N <- [1, 2, 3]],
            [
                receive
                    %% a node on a VM goes by its name in the template
                    {event, _, {in, {number, N}}, Name} when Name =:= P; Name =:= a -> ok
                after ?LIMIT -> ct:fail({no_event, N, of_, P})
                end
             || N <- [1, 2, 3]
            ],
            eventually(counted, fun() ->
                case options(P) of
                    [{Tell, N}] when N >= 4 -> true;
                    Other -> Other
                end
            end),
            ok = sys:remove(P, Tell),
            [] = options(P)
        end
     || P <- [Server, Pid]
    ].

an_installed_fun_goes_when_it_is_done_or_fails(Config) ->
    {Server, Pid, _} = both(Config),
    Self = self(),
    [
        begin
            %% what is thrown is as good as returned
            F = fun(S, {in, {do, What}}, _) ->
                    Self ! {called, What, S},
                    case What of
                        return -> returned;
                        throw -> throw(thrown);
                        done -> done;
                        throw_done -> throw(done);
                        exit -> exit(S);
                        error -> error(S)
                    end;
                (S, _, _) -> S
            end,
            [
                begin
                    ok = sys:install(P, {id, F, first}),
                    P ! {do, return},
                    P ! {do, throw},
                    P ! {do, Last},
                    [
                        receive
                            {called, What, S} -> ok
                        after ?LIMIT -> ct:fail({not_called, What, S})
                        end
                     || {What, S} <- [{return, first}, {throw, returned}, {Last, thrown}]
                    ],
                    eventually({removed, Last}, fun() -> options(P) =:= [] orelse options(P) end)
                end
             || Last <- [done, throw_done, exit, error]
            ]
        end
     || P <- [Server, Pid]
    ],
    ok = sys:install(Pid, {id, no_fun, s}),
    Pid ! an_event,
    eventually(no_fun_is_gone, fun() -> options(Pid) =:= [] end).

an_installed_fun_runs_on_its_own_node(Config) ->
    {Pid, _} = target(Config),
    Peer = proplists:get_value(peer_node, Config),
    Self = self(),
    ok = erpc:call(Peer, fun() ->
        sys:install(Pid, {where, fun(S, _, _) -> Self ! {ran_on, node()}, S end, none})
    end),
    Pid ! an_event,
    Node = receive {ran_on, N} -> N after ?LIMIT -> ct:fail(not_run) end,
    %% a process that is on this VM runs it here
    true = Node =:= case node(Pid) of Here when Here =:= node() -> Here; _ -> Peer end,
    ok = sys:remove(Pid, where).

a_file_has_the_events_as_of_a_gen_server(Config) ->
    {Server, Pid, _} = both(Config),
    [Theirs, Ours] = [
        begin
            File = file_of(Config, lists:concat([proplists:get_value(kind, Config), "_", Name])),
            ok = sys:log_to_file(P, File),
            [P ! M || M <- [hello, {a, "list", <<"bin">>}, #{k => 2.5}]],
            %% handled when this is answered, if it is data it comes behind
            eventually(written, fun() ->
                {ok, Text} = file:read_file(File),
                [_ | Rest] = lists:reverse(string:split(Text, "#{k => 2.5}", all)),
                Rest =/= [] orelse Text
            end),
            ok = sys:log_to_file(P, false),
            {ok, Text} = file:read_file(File),
            [
                re:replace(L, "^\\*DBG\\* \\S+ ", "", [{return, list}])
             || L <- string:split(Text, "\n", all), string:find(L, " got ") =/= nomatch
            ]
        end
     || {Name, P} <- [{theirs, Server}, {ours, Pid}]
    ],
    {Theirs, Theirs} = {Theirs, Ours}.

stateful(Task) ->
    Coop = start([coop:native(a, states, Task, #{})]),
    {pid(Coop, a), Coop}.

a_state_by_fields_is_a_map(_) ->
    {Pid, Coop} = stateful(counter),
    ok = coop:relay_data(Coop, <<"word">>),
    ok = coop:flush(Coop, ?LIMIT),
    #{count := 1, last := <<"word">>} = sys:get_state(Pid),
    esp_test_lib:keeps_state_under_replace(Pid, fun(S) -> S#{count := 1 bsl 60} end).

a_state_of_its_own_making_may_refuse(_) ->
    {Pid, Coop} = stateful(meter),
    {ok, 5} = coop:call(Coop, 5, ?LIMIT),
    5 = sys:get_state(Pid),
    7 = sys:replace_state(Pid, fun(N) -> N + 2 end),
    try sys:replace_state(Pid, fun(_) -> -1 end) of
        _ -> ct:fail(replaced)
    catch
        error:{callback_failed, _, {error, {{cpp_exception, <<"std::invalid_argument">>, <<"below zero">>}, _}}} -> ok
    end,
    7 = sys:get_state(Pid),
    {ok, 8} = coop:call(Coop, 1, ?LIMIT).

an_opaque_state_says_so(_) ->
    {Pid, Coop} = stateful(opaque),
    {opaque, Type} = sys:get_state(Pid),
    true = is_binary(Type),
    {match, _} = re:run(Type, "opaque"),
    {error, {no_state_codec, Type}} = request(Pid, {replace_state, fun(S) -> S end}),
    {ok, 3} = coop:call(Coop, 3, ?LIMIT).

a_function_has_no_state(_) ->
    Coop = start([coop:native(a, sums, same, #{})]),
    Pid = pid(Coop, a),
    undefined = sys:get_state(Pid),
    {error, {no_state_codec, _}} = request(Pid, {replace_state, fun(S) -> S end}).

an_opaque_state_is_refused_before_the_fun_runs(_) ->
    {Pid, _} = stateful(opaque),
    Self = self(),
    {error, {no_state_codec, _}} = request(Pid, {replace_state, fun(_) -> Self ! ran end}),
    [] = mailbox().

a_fun_that_makes_no_state_of_the_type_is_refused(_) ->
    {Pid, Coop} = stateful(counter),
    [
        try sys:replace_state(Pid, fun(_) -> Wrong end) of
            _ -> ct:fail({replaced, Wrong})
        catch
            error:{callback_failed, _, {error, {function_clause, _}}} -> ok
        end
     || Wrong <- [none, #{}, #{count => x, last => <<>>}, #{count => 1}, [1]]
    ],
    #{count := 0, last := <<>>} = sys:get_state(Pid),
    ok = coop:relay_data(Coop, <<"w">>),
    [<<"w">>] = take(1).

get_modules_names_the_plugin(_) ->
    {Pid, _} = stateful(counter),
    {ok, [states]} = gen:call(Pid, self(), get_modules, ?LIMIT).

log_shows_what_goes_in_and_out(_) ->
    {Pid, Coop} = stateful(meter),
    Self = self(),
    ok = sys:log(Pid, {true, 4}),
    [ok = coop:relay_data(Coop, N) || N <- [1, 2, 3]],
    ok = coop:flush(Coop, ?LIMIT),
    {ok, [{in, 2}, {out, 3, Self}, {in, 3}, {out, 6, Self}]} = sys:log(Pid, get),
    [1, 3, 6] = mailbox().

%% The test is the group leader, and gets what the process prints.
trace_prints_to_the_group_leader(_) ->
    {Pid, Coop} = stateful(meter),
    Old = group_leader(),
    true = group_leader(self(), Pid),
    ok = sys:trace(Pid, true),
    ok = coop:relay_data(Coop, 17),
    [In, Out] = [
        receive
            {io_request, _, _, {put_chars, unicode, Text}} -> unicode:characters_to_list(Text)
        after ?LIMIT -> ct:fail(nothing_printed)
        end
     || _ <- [in, out]
    ],
    [{match, _}, {match, _}] =
        [re:run(T, P) || {T, P} <- [{In, "^\\*DBG\\* .* got 17"}, {Out, "^\\*DBG\\* .* sent 17 to "}]],
    ok = sys:trace(Pid, false),
    true = group_leader(Old, Pid),
    ok.
