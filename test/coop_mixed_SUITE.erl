%% Co-ops of Erlang and native tasks in one graph, and their C-node's end.
-module(coop_mixed_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, take/1, mailbox/0, down/1, pids/1, monitors/1]).

-define(C_NODE, t_mixed).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        data_pass_from_home_to_home_in_order,
        a_call_crosses_homes,
        a_flush_crosses_homes,
        priority_data_and_batches_arrive,
        a_window_of_one_is_enough,
        results_go_from_either_home_to_a_receiver_of_each_kind,
        an_erlang_last_tier_sends_to_a_receiver,
        every_process_answers_sys,
        every_process_drops_a_plain_exit_message,
        whoever_is_killed_all_end,
        an_exit_of_any_node_is_the_reason_in_both_homes,
        a_crash_in_one_home_is_the_reason_in_both,
        stop_leaves_nothing,
        a_native_init_that_fails_leaves_nothing_behind,
        an_erlang_init_that_fails_leaves_nothing_behind,
        native_mistakes_are_named_before_anything_starts,
        a_native_coop_has_a_name,
        the_end_of_the_c_node_ends_its_coops_and_a_start_waits,
        a_supervised_coop_comes_back_with_its_c_node
    ].

init_per_suite(Config) ->
    [{c_node, esp_test_c_node:start(?C_NODE)} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

vm(Name) -> coop:task(Name, fun(S, D) -> {S, D + 1} end, #{}).
native(Name) -> native(Name, plus1).
native(Name, Task) -> coop:native(Name, sums, Task, #{args => 0}).

opts() -> #{node => ?C_NODE, receiver => self()}.

%% Each way in which two homes can follow each other, with how many nodes a
%% datum passes, and how often it arrives.
graphs() ->
    [
        {coop_flow:pipeline([vm(a), native(b)]), 2, 1},
        {coop_flow:pipeline([native(a), vm(b)]), 2, 1},
        {coop_flow:pipeline([vm(a), native(b), vm(c), native(d)]), 4, 1},
        {coop_flow:pipeline([native(a), vm(b), native(c)]), 3, 1},
        {coop_flow:pipeline([native(a), native(b)]), 2, 1},
        %% entries in both homes
        {coop_flow:graph([vm(a), native(b), native(c), vm(d)], [{a, c}, {b, c}, {c, d}]), 3, 2}
    ].

shapes() -> [T || {T, _, _} <- graphs()].

start(Template) -> start(Template, #{}).
start(Template, More) ->
    {ok, Coop} = coop:start_link(Template, maps:merge(opts(), More)),
    Coop.

relay(Coop, Data) ->
    [ok = coop:relay_data(Coop, D) || D <- Data],
    ok.

data_pass_from_home_to_home_in_order(_) ->
    [
        begin
            Coop = start(T),
            relay(Coop, lists:seq(1, 300)),
            ok = coop:flush(Coop, 10_000),
            Got = mailbox(),
            Expected = [I + Depth || I <- lists:seq(1, 300), _ <- lists:seq(1, Copies)],
            Expected = lists:sort(Got),
            %% two entries are not in step with each other
            true = Copies =:= 2 orelse Got =:= Expected,
            ok = coop:stop(Coop)
        end
     || {T, Depth, Copies} <- graphs()
    ].

a_call_crosses_homes(_) ->
    [
        begin
            Coop = start(T),
            {ok, Result} = coop:call(Coop, 40, 10_000),
            Result = 40 + Depth,
            ok = coop:flush(Coop, 10_000),
            [] = mailbox(),
            ok = coop:stop(Coop)
        end
     || {T, Depth, _} <- graphs()
    ].

a_flush_crosses_homes(_) ->
    T = coop_flow:fanout(
        coop:task(r, fun(S, D) -> {S, D} end, #{dataflow => round_robin}),
        [native(w1, total), native(w2, total)],
        coop:task(f, fun(S, D) -> {S + D} end, #{
            init => fun() -> 0 end, flush => fun(S) -> {0, {total, S}} end
        })
    ),
    Coop = start(T),
    relay(Coop, lists:seq(1, 1000)),
    ok = coop:flush(Coop, 10_000),
    [{total, 500_500}] = mailbox(),
    ok = coop:stop(Coop).

priority_data_and_batches_arrive(_) ->
    [
        begin
            Coop = start(T),
            ok = coop:relay_batch(Coop, lists:seq(1, 100)),
            ok = coop:relay_high_priority_data(Coop, 1000),
            ok = coop:flush(Coop, 10_000),
            Got = mailbox(),
            true = lists:member(1000 + Depth, Got),
            101 = length(Got) div Copies,
            ok = coop:stop(Coop)
        end
     || {T, Depth, Copies} <- graphs()
    ].

a_window_of_one_is_enough(_) ->
    [
        begin
            Coop = start(T, #{window => 1}),
            relay(Coop, lists:seq(1, 50)),
            ok = coop:flush(Coop, 10_000),
            true = length(mailbox()) =:= 50 * Copies,
            ok = coop:stop(Coop)
        end
     || {T, _, Copies} <- graphs()
    ].

results_go_from_either_home_to_a_receiver_of_each_kind(_) ->
    register(mixed_receiver, self()),
    Ends = [start(coop_flow:pipeline(Nodes)) || Nodes <- [[vm(z)], [native(z)], [vm(y), native(z)]]],
    [
        begin
            Coop = start(T, #{receiver => Receiver, window => 7}),
            relay(Coop, lists:seq(1, 100)),
            ok = coop:flush(Coop, 10_000),
            More = length(take_all(Receiver, Ends)),
            100 = More,
            ok = coop:stop(Coop)
        end
     || {T, _, 1} <- graphs(),
        Receiver <- [self(), mixed_receiver, {mixed_receiver, node()} | Ends]
    ],
    [ok = coop:stop(E) || E <- Ends],
    unregister(mixed_receiver).

take_all(Receiver, Ends) ->
    case lists:member(Receiver, Ends) of
        true -> ok = coop:flush(Receiver, 10_000);
        false -> ok
    end,
    mailbox().

an_erlang_last_tier_sends_to_a_receiver(_) ->
    Second = start(coop_flow:pipeline([native(z)])),
    First = start(coop_flow:pipeline([native(a), vm(b)]), #{receiver => coop:'of'(Second), window => 3}),
    relay(First, lists:seq(1, 100)),
    ok = coop:flush(First, 10_000),
    ok = coop:flush(Second, 10_000),
    Expected = lists:seq(4, 103),
    Expected = mailbox(),
    ok = coop:stop(First),
    ok = coop:stop(Second).

each_process(Fun) ->
    [
        begin
            Coop = start(T),
            [Fun(Pid) || Pid <- pids(Coop)],
            relay(Coop, [1]),
            ok = coop:flush(Coop, 10_000),
            _ = mailbox(),
            ok = coop:stop(Coop)
        end
     || T <- shapes()
    ].

every_process_answers_sys(_) ->
    each_process(fun(Pid) ->
        ok = esp_test_lib:answers_sys_when_idle(Pid),
        ok = esp_test_lib:answers_sys_when_suspended(Pid)
    end).

every_process_drops_a_plain_exit_message(_) ->
    each_process(fun esp_test_lib:drops_a_plain_exit_message/1).

whoever_is_killed_all_end(_) ->
    process_flag(trap_exit, true),
    T = coop_flow:pipeline([vm(a), native(b), vm(c), native(d)]),
    Coop0 = start(T),
    N = length(pids(Coop0)),
    ok = coop:stop(Coop0),
    [{'EXIT', Coop0, normal}] = mailbox(),
    [
        begin
            Coop = start(T),
            All = pids(Coop),
            Refs = monitors(All),
            exit(lists:nth(I, All), kill),
            [killed] = lists:usort([down(Ref) || Ref <- Refs]),
            [{'EXIT', Coop, killed}] = take(1)
        end
     || I <- lists:seq(1, N)
    ].

an_exit_of_any_node_is_the_reason_in_both_homes(_) ->
    process_flag(trap_exit, true),
    T = coop_flow:pipeline([vm(a), native(b), vm(c), native(d)]),
    [
        begin
            Coop = start(T),
            All = pids(Coop),
            #{nodes := Nodes} = coop:info(Coop),
            Refs = monitors(All),
            exit(proplists:get_value(Name, Nodes), {a, "reason"}),
            [{a, "reason"}] = lists:usort([down(Ref) || Ref <- Refs]),
            [{'EXIT', Coop, {a, "reason"}}] = take(1)
        end
     || Name <- [a, b, c, d]
    ].

a_crash_in_one_home_is_the_reason_in_both(_) ->
    process_flag(trap_exit, true),
    [
        begin
            Coop = start(coop_flow:pipeline(Nodes)),
            Refs = monitors(pids(Coop)),
            relay(Coop, [not_a_number]),
            [Reason] = lists:usort([down(Ref) || Ref <- Refs]),
            {Expected, _} = {element(1, Reason), Reason},
            [{'EXIT', Coop, Reason}] = take(1)
        end
     || {Nodes, Expected} <- [
            {[coop:native(p, sums, same, #{}), vm(a), native(b)], badarith},
            {[coop:task(p, fun(S, D) -> {S, D} end, #{}), native(a), vm(b)], function_clause}
        ]
    ].

stop_leaves_nothing(_) ->
    [
        begin
            Coop = start(T),
            Refs = monitors(pids(Coop)),
            ok = coop:stop(Coop),
            [normal] = lists:usort([down(Ref) || Ref <- Refs]),
            [] = mailbox()
        end
     || T <- shapes()
    ].

a_native_init_that_fails_leaves_nothing_behind(_) ->
    process_flag(trap_exit, true),
    Self = self(),
    Init = fun() -> Self ! {init, self()} end,
    Vm = coop:task(a, fun(S, D) -> {S, D} end, #{init => Init}),
    {links, Links} = process_info(self(), links),
    [
        begin
            {error, {init, b, {{cpp_exception, _, <<"no init">>}, _}}} =
                coop:start_link(coop_flow:pipeline(Nodes), opts()),
            {links, Links} = process_info(self(), links),
            false = lists:any(fun is_process_alive/1, [P || {init, P} <- mailbox()])
        end
     || Nodes <- [[native(b, no_init)], [Vm, native(b, no_init)], [native(b, no_init), Vm]]
    ].

an_erlang_init_that_fails_leaves_nothing_behind(_) ->
    process_flag(trap_exit, true),
    Fails = coop:task(b, fun(S, D) -> {S, D} end, #{init => fun() -> exit(oops) end}),
    {links, Links} = process_info(self(), links),
    [
        begin
            {error, {init, b, oops}} = coop:start_link(coop_flow:pipeline(Nodes), (opts())#{name => not_there}),
            {links, Links} = process_info(self(), links),
            false = coop:is_live(not_there),
            {error, {init, b, oops}} = coop:start_link(coop_flow:pipeline(Nodes), (opts())#{name => not_there}),
            [] = mailbox()
        end
     || Nodes <- [[native(a), Fails], [Fails, native(a)]]
    ].

native_mistakes_are_named_before_anything_starts(_) ->
    Self = self(),
    Vm = coop:task(v, fun(S, D) -> {S, D} end, #{init => fun() -> Self ! started end}),
    [
        {Expected, {error, Expected}} = {Expected, coop:start_link(coop_flow:pipeline([Vm, Node]), opts())}
     || {Expected, Node} <- [
            {{bad_node, a, {no_plugin, none_such}}, coop:native(a, none_such, t, #{})},
            {{bad_node, a, {no_task, sums, none_such}}, native(a, none_such)},
            {{bad_node, a, {no_app, none_such}}, coop:native(a, {none_such, p}, t, #{})}
        ]
    ],
    [] = mailbox().

a_native_coop_has_a_name(_) ->
    T = coop_flow:pipeline([native(a)]),
    Coop = start(T, #{name => native_name}),
    {error, {already_started, Coop}} = coop:start_link(T, (opts())#{name => native_name}),
    ok = coop:relay_data(native_name, 1),
    ok = coop:flush(native_name, 10_000),
    [2] = mailbox(),
    {native_name, esp_node:node(?C_NODE)} ! 5,
    [6] = take(1),
    ok = coop:stop(native_name).

the_end_of_the_c_node_ends_its_coops_and_a_start_waits(_) ->
    process_flag(trap_exit, true),
    Coops = [start(T) || T <- shapes()],
    Refs = lists:append([monitors([P || P <- pids(C), node(P) =:= node()]) || C <- Coops]),
    esp_test_lib:kill_c_node(?C_NODE),
    [noconnection] = lists:usort([down(Ref) || Ref <- Refs]),
    Ends = take(length(Coops)),
    [] = Ends -- [{'EXIT', Coop, noconnection} || Coop <- Coops],
    Again = [start(T) || T <- shapes()],
    [
        begin
            relay(Coop, [1]),
            ok = coop:flush(Coop, 10_000),
            ok = coop:stop(Coop)
        end
     || Coop <- Again
    ].

a_supervised_coop_comes_back_with_its_c_node(_) ->
    process_flag(trap_exit, true),
    T = coop_flow:pipeline([vm(a), native(b), vm(c)]),
    Children = [
        esp_node:child_spec(#{name => t_supervised, plugins => [esp_test_lib:plugin()]}),
        coop:child_spec(maps:merge(opts(), #{id => x, template => T, node => t_supervised}))
    ],
    Flags = #{strategy => rest_for_one, intensity => 1, period => 60},
    {ok, Sup} = supervisor:start_link(esp_test_sup, {Flags, Children}),
    Child = fun() ->
        {x, Pid, _, _} = lists:keyfind(x, 1, supervisor:which_children(Sup)),
        Pid
    end,
    Coop = Child(),
    {ok, 13} = coop:call(Coop, 10, 10_000),
    Ref = monitor(process, Coop),
    esp_test_lib:kill_c_node(t_supervised),
    noconnection = down(Ref),
    Next = Child(),
    true = is_pid(Next) andalso Next =/= Coop,
    {ok, 13} = coop:call(Next, 10, 10_000),
    unlink(Sup),
    exit(Sup, shutdown),
    eventually(c_node_gone, fun() -> esp_test_lib:os_pids(t_supervised) =:= [] end).
