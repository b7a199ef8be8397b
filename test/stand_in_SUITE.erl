%% `stand_in => true': a process of this VM in the place of a co-op, native, on
%% the VM or both. A supervisor sees in it what it sees in any child, so the
%% cases of supervision_SUITE run on it too.
-module(stand_in_SUITE).

-behaviour(application).

-export([all/0, suite/0, groups/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([init_per_group/2, end_per_group/2]).
-export([start/2, stop/1]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, mailbox/0, down/1]).

-define(C_NODE, t_stand_in).
-define(LIMIT, 10_000).
-define(NAME, stands_in).
%% so that few of them are all the credit there is, 256 KiB
-define(LARGE, 100_000).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, G} || G <- [native, native_entry, erlang_entry, vm]] ++
        [a_wrong_option_starts_nothing].

groups() ->
    Cases = cases(),
    Native = [the_loss_of_the_c_node_ends_it],
    [
        {native, [], Cases ++ Native},
        {native_entry, [], Cases ++ Native},
        {erlang_entry, [], Cases ++ Native},
        {vm, [], Cases}
    ].

cases() ->
    [
        it_is_a_local_process,
        it_is_as_good_as_the_head,
        data_keep_their_order_whichever_way_they_come,
        data_wait_for_credit_and_control_does_not,
        what_waits_is_bounded,
        the_head_answers_sys,
        the_head_answers_get_modules,
        a_plain_exit_message_is_dropped,
        a_clone_has_a_stand_in_too,
        another_co_op_may_send_to_it,
        another_vm_may_address_it,
        it_asks_for_results,
        the_end_of_any_process_is_that_of_all,
        an_order_to_end_reaches_all,
        the_end_of_its_parent_ends_it,
        a_taken_name_is_an_error,
        a_start_that_fails_leaves_nothing,
        a_supervisor_counts_and_restarts_it,
        a_supervisor_sees_no_difference,
        an_application_shows_its_tree,
        nothing_is_left_of_it
    ].

init_per_suite(Config) ->
    [{c_node, esp_test_c_node:start(?C_NODE)} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

init_per_group(Kind, Config) -> [{kind, Kind} | Config].
end_per_group(_, _) -> ok.

%%% Co-ops whose every node passes its datum on

pass(Name) -> coop:task(Name, fun(S, D) -> {S, D} end, #{}).
same(Name) -> coop:native(Name, sums, same, #{}).

template(native) -> coop_flow:pipeline([same(a), same(b)]);
template(native_entry) -> coop_flow:pipeline([same(a), pass(b)]);
template(erlang_entry) -> coop_flow:pipeline([pass(a), same(b)]);
template(vm) -> coop_flow:pipeline([pass(a), pass(b)]).

template_of(Config) -> template(proplists:get_value(kind, Config)).

opts() -> #{node => ?C_NODE, receiver => self(), stand_in => true}.

start(Config, More) when is_list(Config) ->
    process_flag(trap_exit, true),
    {ok, Pid} = coop:start_link(template_of(Config), maps:merge(opts(), More)),
    Pid;
%% of the application whose tree is looked at
start(_Type, Child) ->
    supervisor:start_link(esp_test_sup, {#{}, [Child]}).

stop(_State) -> ok.

%% The stand-in and all that it stands for.
all_of(Pid) -> [Pid | esp_test_lib:pids(Pid)].

ended(Pid) ->
    receive
        {'EXIT', Pid, Reason} -> Reason
    after ?LIMIT -> ct:fail({no_exit, Pid, mailbox()})
    end.

%% Everything relayed before has come back, in this order.
came(Coop, Expected) ->
    ok = coop:flush(Coop, ?LIMIT),
    Expected = mailbox(),
    ok.

modules(Pid) ->
    Pid ! {get_modules, self()},
    receive
        {modules, Listed} -> Listed
    after ?LIMIT -> ct:fail({waited_in_vain_for, modules})
    end.

%%% Cases

it_is_a_local_process(Config) ->
    Pid = start(Config, #{name => ?NAME}),
    true = node(Pid) =:= node() andalso is_process_alive(Pid),
    Pid = whereis(?NAME),
    {registered_name, ?NAME} = process_info(Pid, registered_name),
    {links, Links} = process_info(Pid, links),
    true = lists:sort([self(), coop:head(Pid)]) =:= lists:sort(Links),
    {dictionary, Dictionary} = process_info(Pid, dictionary),
    {_, {coop_stand_in, init, 4}} = lists:keyfind('$initial_call', 1, Dictionary),
    {_, [_ | _]} = lists:keyfind('$ancestors', 1, Dictionary),
    ok = coop:stop(Pid),
    undefined = whereis(?NAME).

it_is_as_good_as_the_head(Config) ->
    Pid = start(Config, #{name => ?NAME}),
    Head = coop:head(Pid),
    true = Head =/= Pid,
    [
        begin
            Head = coop:head(Address),
            true = coop:is_live(Address),
            {ok, {x, N}} = coop:call(Address, {x, N}, ?LIMIT),
            ok = coop:relay_data(Address, N),
            came(Address, [N]),
            ok = coop:relay_high_priority_data(Address, {high, N}),
            came(Address, [{high, N}]),
            #{role := head, status := running, stand_in := Own} = coop:info(Address),
            #{pid := Pid, head := Head, registered := ?NAME, queue := 0, dropped := 0} = Own
        end
     || {N, Address} <- lists:enumerate([Pid, ?NAME, {?NAME, node()}, coop:'of'(Pid)])
    ],
    %% the head itself has not lost its manners
    ok = coop:relay_data(Head, directly),
    came(Head, [directly]),
    false = is_map_key(stand_in, coop:info(Head)),
    ok = coop:stop(?NAME),
    false = coop:is_live(?NAME),
    false = coop:is_live(Pid).

data_keep_their_order_whichever_way_they_come(Config) ->
    Pid = start(Config, #{name => ?NAME}),
    Sent = [
        begin
            case I rem 4 of
                0 -> Pid ! {I, 0};
                1 -> ?NAME ! {I, 0};
                2 -> ok = coop:relay_data(?NAME, {I, 0});
                3 -> ok = coop:relay_batch(Pid, [{I, 0}, {I, 1}])
            end,
            case I rem 4 of
                3 -> [{I, 0}, {I, 1}];
                _ -> [{I, 0}]
            end
        end
     || I <- lists:seq(1, 2_000)
    ],
    came(?NAME, lists:append(Sent)),
    ok = coop:stop(Pid).

%% More than there is credit for, at a head that is suspended.
data_wait_for_credit_and_control_does_not(Config) ->
    Pid = start(Config, #{}),
    ok = sys:suspend(Pid),
    Data = [{I, binary:copy(<<I>>, ?LARGE)} || I <- lists:seq(1, 20)],
    [Pid ! Datum || Datum <- Data],
    #{status := suspended, stand_in := #{queue := Queue}} = coop:info(Pid),
    true = Queue > 0 andalso Queue < 20,
    ok = coop:relay_data(Pid, relayed),
    Pid ! plain,
    #{stand_in := #{queue := More}} = coop:info(Pid),
    More = Queue + 1,
    _ = sys:get_state(Pid),
    %% a flush is behind all of them
    {error, timeout} = coop:flush(Pid, 0),
    ok = sys:resume(Pid),
    ok = coop:flush(Pid, ?LIMIT),
    Expected = Data ++ [relayed, plain],
    Expected = [Message || Message <- mailbox(), not is_mark(Message)],
    #{stand_in := #{queue := 0, dropped := 0}} = coop:info(Pid),
    ok = coop:stop(Pid).

%% Of the flush that was given up.
is_mark({'$coop', flushed, _, _}) -> true;
is_mark(_) -> false.

what_waits_is_bounded(Config) ->
    Pid = start(Config, #{max_queue => 10, dead_letter => self()}),
    Head = coop:head(Pid),
    ok = sys:suspend(Pid),
    Data = [{I, binary:copy(<<I>>, ?LARGE)} || I <- lists:seq(1, 20)],
    [Pid ! Datum || Datum <- Data],
    %% the credit is enough for two
    #{stand_in := #{queue := 10, dropped := 8, dead_lettered := 8}} = coop:info(Pid),
    {Kept, Lost} = lists:split(12, Data),
    Lost = [
        Datum
     || {coop_dead_letter, From, stand_in, Datum, overloaded} <- mailbox(), From =:= Head
    ],
    ok = sys:resume(Pid),
    came(Pid, Kept),
    ok = coop:stop(Pid).

the_head_answers_sys(Config) ->
    Pid = start(Config, #{name => ?NAME}),
    Head = coop:head(Pid),
    {status, Head, {module, _}, [Dictionary, running, _, _, _]} = sys:get_status(?NAME),
    {_, {_, _, _}} = lists:keyfind('$initial_call', 1, Dictionary),
    #{role := head} = sys:get_state(?NAME),
    ok = sys:suspend(?NAME),
    {status, Head, _, [_, suspended | _]} = sys:get_status(Pid),
    ok = sys:change_code(?NAME, lists, undefined, []),
    ok = sys:resume(?NAME),
    {status, Head, _, [_, running | _]} = sys:get_status(Pid),
    ok = sys:statistics(?NAME, true),
    ok = coop:relay_data(?NAME, datum),
    came(?NAME, [datum]),
    {ok, Statistics} = sys:statistics(?NAME, get),
    {_, N} = lists:keyfind(messages_in, 1, Statistics),
    true = N >= 1,
    ok = sys:statistics(?NAME, false),
    ok = sys:log(?NAME, true),
    {ok, []} = sys:log(?NAME, get),
    ok = sys:log(?NAME, false),
    ok = sys:trace(?NAME, true),
    ok = sys:no_debug(?NAME),
    %% a head shows its state, and is as a head refuses another
    {error, Refusal} = replace(Head),
    {error, Refusal} = replace(?NAME),
    ok = sys:terminate(?NAME, normal),
    normal = ended(Pid).

replace(Process) ->
    try
        {ok, sys:replace_state(Process, fun(_) -> other end)}
    catch
        error:{callback_failed, _, {_, Reason}} -> {error, Reason};
        error:Reason -> {error, Reason}
    end.

the_head_answers_get_modules(Config) ->
    Pid = start(Config, #{}),
    Modules = [_ | _] = modules(coop:head(Pid)),
    Modules = modules(Pid),
    {ok, Modules} = gen:call(Pid, self(), get_modules, ?LIMIT),
    ok = coop:stop(Pid).

a_plain_exit_message_is_dropped(Config) ->
    Pid = start(Config, #{}),
    esp_test_lib:drops_a_plain_exit_message(Pid),
    Pid ! {'EXIT', coop:head(Pid), boom},
    ok = coop:relay_data(Pid, still_works),
    came(Pid, [still_works]),
    ok = coop:stop(Pid).

a_clone_has_a_stand_in_too(Config) ->
    Pid = start(Config, #{name => ?NAME}),
    [
        begin
            {ok, Clone} = coop:clone(Of),
            true = Clone =/= Pid andalso is_process_alive(Clone),
            true = coop:head(Clone) =/= Clone andalso coop:head(Clone) =/= coop:head(Pid),
            Clone ! I,
            came(Clone, [I]),
            ok = coop:stop(Clone),
            normal = ended(Clone)
        end
     || {I, Of} <- lists:enumerate([Pid, ?NAME, coop:head(Pid)])
    ],
    ok = coop:stop(Pid).

another_co_op_may_send_to_it(Config) ->
    Pid = start(Config, #{name => ?NAME}),
    [
        begin
            First = start(Config, #{receiver => Receiver}),
            First ! I,
            ok = coop:flush(First, ?LIMIT),
            came(Pid, [I]),
            ok = coop:stop(First),
            normal = ended(First)
        end
     || {I, Receiver} <- lists:enumerate([Pid, ?NAME, {?NAME, node()}, coop:'of'(Pid)])
    ],
    ok = coop:stop(Pid).

another_vm_may_address_it(Config) ->
    {_, Node} = Peer = esp_test_c_node:start_peer(addresses),
    {ok, _} = erpc:call(Node, application, ensure_all_started, [erlangsp]),
    There = fun(M, F, Args) -> erpc:call(Node, M, F, Args, ?LIMIT) end,
    Pid = start(Config, #{name => ?NAME}),
    [
        begin
            %% what is behind it only its own VM knows
            Pid = There(coop, head, [Address]),
            {ok, {x, N}} = There(coop, call, [Address, {x, N}, ?LIMIT]),
            ok = There(coop, relay_data, [Address, N]),
            ok = There(coop, relay_batch, [Address, [{a, N}, {b, N}]]),
            ok = There(coop, flush, [Address, ?LIMIT]),
            came(Pid, [N, {a, N}, {b, N}]),
            ok = There(coop, relay_high_priority_data, [Address, {high, N}]),
            ok = There(coop, flush, [Address, ?LIMIT]),
            came(Pid, [{high, N}]),
            #{role := head} = There(coop, info, [Address]),
            #{role := head} = There(sys, get_state, [Address])
        end
     || {N, Address} <- lists:enumerate([Pid, {?NAME, node()}])
    ],
    Me = self(),
    Watcher = spawn(Node, fun() ->
        process_flag(trap_exit, true),
        link(Pid),
        Monitor = monitor(process, Pid),
        Pid ! plain,
        Me ! {self(), watches},
        receive
            {'EXIT', Pid, Linked} -> ok
        end,
        receive
            {'DOWN', Monitor, process, Pid, Monitored} -> Me ! {self(), Linked, Monitored}
        end
    end),
    receive
        {Watcher, watches} -> ok
    after ?LIMIT -> ct:fail({no_watcher, mailbox()})
    end,
    receive
        plain -> ok
    after ?LIMIT -> ct:fail({waited_in_vain_for, plain, mailbox()})
    end,
    true = There(erlang, exit, [Pid, boom]),
    receive
        {Watcher, boom, boom} -> ok
    after ?LIMIT -> ct:fail({no_end_there, mailbox()})
    end,
    boom = ended(Pid),
    esp_test_c_node:stop_peer(Peer).

it_asks_for_results(Config) ->
    Pid = start(Config, #{receiver => {demand, self()}}),
    [Pid ! I || I <- [1, 2, 3]],
    ok = coop:ask(Pid, 3),
    [1, 2, 3] = esp_test_lib:take(3),
    ok = coop:stop(Pid).

the_end_of_any_process_is_that_of_all(Config) ->
    Last = start(Config, #{}),
    N = length(all_of(Last)),
    ok = coop:stop(Last),
    normal = ended(Last),
    [
        begin
            Pid = start(Config, #{name => ?NAME}),
            All = all_of(Pid),
            Refs = esp_test_lib:monitors(All),
            exit(lists:nth(I, All), kill),
            [killed] = lists:usort([down(R) || R <- Refs]),
            killed = ended(Pid)
        end
     || I <- lists:seq(1, N)
    ].

%% Signals to the stand-in and to the head; asked by `sys', or stopped.
an_order_to_end_reaches_all(Config) ->
    [
        begin
            Pid = start(Config, #{}),
            Refs = esp_test_lib:monitors(all_of(Pid)),
            Order(Pid),
            [Seen] = lists:usort([down(R) || R <- Refs]),
            Seen = ended(Pid)
        end
     || {Seen, Order} <- [
            {boom, fun(P) -> exit(P, boom) end},
            {boom, fun(P) -> exit(coop:head(P), boom) end},
            {shutdown, fun(P) -> exit(P, shutdown) end},
            {{shutdown, why}, fun(P) -> exit(coop:head(P), {shutdown, why}) end},
            {normal, fun(P) -> ok = coop:stop(P) end},
            {normal, fun(P) -> ok = coop:stop(coop:head(P)) end},
            {over, fun(P) -> ok = coop:stop(P, over) end},
            {over, fun(P) -> ok = sys:terminate(P, over) end}
        ]
    ],
    Pid = start(Config, #{}),
    exit(Pid, normal),
    ok = coop:relay_data(Pid, still_works),
    came(Pid, [still_works]),
    ok = coop:stop(Pid).

the_end_of_its_parent_ends_it(Config) ->
    Self = self(),
    [
        begin
            {Parent, _} = spawn_monitor(fun() ->
                {ok, Pid} = coop:start_link(template_of(Config), opts()),
                Self ! {started, self(), all_of(Pid)},
                receive
                    finish -> exit(Reason)
                end
            end),
            Refs =
                receive
                    {started, Parent, Pids} -> esp_test_lib:monitors(Pids)
                after ?LIMIT -> ct:fail(not_started)
                end,
            Parent ! finish,
            [Reason] = lists:usort([down(R) || R <- Refs])
        end
     || Reason <- [normal, shutdown, boom]
    ].

a_taken_name_is_an_error(Config) ->
    Pid = start(Config, #{name => ?NAME}),
    {error, {already_started, Pid}} =
        coop:start_link(template_of(Config), maps:merge(opts(), #{name => ?NAME})),
    [] = mailbox(),
    Pid = whereis(?NAME),
    ok = coop:stop(Pid).

a_start_that_fails_leaves_nothing(_) ->
    process_flag(trap_exit, true),
    {links, Before} = process_info(self(), links),
    Template = coop_flow:pipeline([coop:task(a, fun(S, D) -> {S, D} end, #{
        init => fun() -> exit(not_now) end
    })]),
    {error, {init, a, not_now}} = coop:start_link(Template, maps:merge(opts(), #{name => ?NAME})),
    undefined = whereis(?NAME),
    [] = mailbox(),
    {links, After} = process_info(self(), links),
    [] = After -- Before.

a_wrong_option_starts_nothing(_) ->
    process_flag(trap_exit, true),
    {error, {bad_option, {window, 0}}} = coop:start_link(template(vm), (opts())#{window => 0}),
    {error, {bad_option, {stand_in, 1}}} = coop:start_link(template(vm), (opts())#{stand_in => 1}),
    {ok, Pid} = coop:start_link(template(vm), (opts())#{stand_in => false}),
    Pid = coop:head(Pid),
    ok = coop:stop(Pid).

a_supervisor_counts_and_restarts_it(Config) ->
    process_flag(trap_exit, true),
    Options = (opts())#{id => x, name => ?NAME, template => template_of(Config)},
    {ok, Sup} = supervisor:start_link(esp_test_sup, {#{}, [coop:child_spec(Options)]}),
    Pid = whereis(?NAME),
    Counts = supervisor:count_children(Sup),
    [{1, Key} = {proplists:get_value(Key, Counts), Key} || Key <- [specs, active, workers]],
    [{x, Pid, worker, dynamic}] = supervisor:which_children(Sup),
    ok = supervisor:terminate_child(Sup, x),
    undefined = whereis(?NAME),
    {active, 0} = lists:keyfind(active, 1, supervisor:count_children(Sup)),
    %% its name is free, and nothing of the last one is in the way
    {ok, Next} = supervisor:restart_child(Sup, x),
    Next = whereis(?NAME),
    ?NAME ! datum,
    came(?NAME, [datum]),
    Ref = monitor(process, Next),
    exit(coop:head(Next), boom),
    boom = down(Ref),
    eventually(restarted, fun() ->
        [{x, Last, worker, dynamic}] = supervisor:which_children(Sup),
        is_pid(Last) andalso Last =/= Next andalso Last =:= whereis(?NAME)
    end),
    exit(Sup, shutdown),
    shutdown = ended(Sup),
    undefined = whereis(?NAME).

%% But for the pid in sys:get_status/1, which is the head's.
a_supervisor_sees_no_difference(Config) ->
    Kind =
        case proplists:get_value(kind, Config) of
            native -> native_coop;
            Mixed -> Mixed
        end,
    Own = #{node => ?C_NODE, stand_in => true},
    Start = fun(Args) ->
        {coop, start_link, [life_template(Kind, Args), Own]}
    end,
    Given = [
        {start, fun(Name) -> Start({self(), Name}) end},
        {fails, Start(fail)},
        {home, node()}
        | Config
    ],
    [
        begin
            ct:log("~p", [Case]),
            supervision_SUITE:Case(Given)
        end
     || Case <- (supervision_SUITE:cases() -- [exit_with_normal_is_ignored])
    ].

life_template(vm, Args) ->
    %% the native `life', in Erlang
    Init = fun() ->
        case Args of
            fail ->
                exit(failed);
            {To, Name} ->
                To ! {init, Name, self()},
                Args
        end
    end,
    coop_flow:pipeline([coop:task(life, fun life/2, #{init => Init}), pass(b)]);
life_template(Kind, Args) ->
    supervision_SUITE:template(Kind, Args).

life(_, {exit, Reason}) ->
    exit(Reason);
life({To, Name} = S, {busy, Ms}) ->
    To ! {busy, Name, self()},
    receive
    after Ms -> {S, done}
    end;
life({To, Name}, {block, _}) ->
    To ! {blocked, Name, self()},
    receive
    after infinity -> ok
    end;
life(S, D) ->
    {S, D}.

%% As observer asks for it: a tree is walked by its links, from the application
%% master down, and what is on another node is shown and not walked.
an_application_shows_its_tree(Config) ->
    process_flag(trap_exit, true),
    Child = coop:child_spec((opts())#{
        id => x, name => ?NAME, template => template_of(Config), receiver => none
    }),
    ok = application:load({application, ?MODULE, [
        {description, "a tree"},
        {vsn, "1"},
        {modules, []},
        {registered, []},
        {applications, [kernel, stdlib]},
        {mod, {?MODULE, Child}}
    ]}),
    ok = application:start(?MODULE),
    Pid = whereis(?NAME),
    {ok, Walker} = appmon_info:start_link(node(), self(), []),
    ok = appmon_info:app(Walker, ?MODULE, true, []),
    {_Root, Names, Links, Foreign} =
        receive
            {delivery, Walker, app, ?MODULE, Tree} -> Tree
        after ?LIMIT -> ct:fail({no_tree, mailbox()})
        end,
    {Pid, "stands_in"} = lists:keyfind(Pid, 1, Names),
    [_ | _] = [Above || {Above, "stands_in"} <- Links],
    Head = coop:head(Pid),
    Shown =
        case node(Head) =:= node() of
            true -> pid_to_list(Head);
            false -> pid_to_list(Head) ++ " " ++ atom_to_list(node(Head))
        end,
    true = lists:member({"stands_in", Shown}, Links ++ Foreign),
    ok = appmon_info:app(Walker, ?MODULE, false, []),
    unlink(Walker),
    exit(Walker, shutdown),
    ok = application:stop(?MODULE),
    ok = application:unload(?MODULE),
    undefined = whereis(?NAME).

nothing_is_left_of_it(Config) ->
    Tables = [coop_names, coop_names_by_name, coop_names_switches, coop_credit],
    First = start(Config, #{}),
    ok = coop:stop(First),
    normal = ended(First),
    Before = esp_test_c_node:processes(?C_NODE),
    [
        begin
            Pid = start(Config, #{name => ?NAME}),
            Pid ! datum,
            ok = coop:relay_data(Pid, datum),
            came(Pid, [datum, datum]),
            All = all_of(Pid),
            Refs = esp_test_lib:monitors(All),
            exit(Pid, Reason),
            [down(R) || R <- Refs],
            _ = ended(Pid),
            eventually({forgotten, Reason}, fun() ->
                [] =:= [
                    Entry
                 || Table <- Tables, Entry <- ets:tab2list(Table), names(Entry, All)
                ]
            end)
        end
     || Reason <- [boom, kill, shutdown]
    ],
    esp_test_c_node:settled(?C_NODE, Before).

names(Entry, Pids) when is_tuple(Entry) ->
    lists:any(fun(E) -> lists:member(E, Pids) end, tuple_to_list(Entry)) orelse
        names(element(1, Entry), Pids);
names(_, _) ->
    false.

the_loss_of_the_c_node_ends_it(Config) ->
    Pid = start(Config, #{name => ?NAME}),
    Refs = esp_test_lib:monitors(all_of(Pid)),
    esp_test_c_node:kill(?C_NODE),
    [noconnection] = lists:usort([down(R) || R <- Refs]),
    noconnection = ended(Pid),
    %% and the next one waits for the next C-node
    Next = start(Config, #{name => ?NAME}),
    Next ! datum,
    came(Next, [datum]),
    ok = coop:stop(Next).
