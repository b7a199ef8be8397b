%% The change of a co-op's code while data flow: of all its nodes whose task is of
%% one of the modules (plugins, or modules of Erlang tasks), or of none.
%%
%% The head is held: it keeps what comes, and passes a barrier. When that is
%% through, nothing made by the old code is on its way. Each node that is concerned
%% then makes its new state beside the old one, and stops. If all could, all
%% change, else none; and the head goes on. Whoever is told to wait here watches
%% the process that coordinates, and goes on without it if it ends.
%%
%% Code that is left is still needed for what a plain message may have given rise
%% to behind the barrier. So a second barrier follows, for which nobody waits, and
%% then it is let go. doc/upgrade.md is the contract.
-module(coop_upgrade).

-export([run/4]).
-export([change_code/4]).
-export([answer/5]).
-export([let_go/1]).
-export_type([change/0, reason/0]).

%% A little less than sys:change_code/4 waits.
-define(TIMEOUT, 4_500).
-define(SOON, 5_000).

%% OldVsn is `{down, _}' for an older version, else of no interest.
-type change() :: {[module()], OldVsn :: term(), Extra :: term()}.
-type reason() :: {Node :: atom(), Reason :: term()} | term().

%% @doc Changes one co-op, by its head's pid. What a plugin's current image is on
%% its C-node is what its nodes change to.
-spec run(pid(), change(), timeout(), RenewedBy :: fun((node()) -> ok | {error, term()})) ->
    ok | {error, reason()}.
run(Head, Change, Timeout, Renew) ->
    Self = self(),
    Ref = make_ref(),
    %% marks of a barrier that come late end with it
    {Pid, Monitor} = spawn_monitor(fun() -> coordinate(Self, Ref, Head, Change, Timeout, Renew) end),
    receive
        {Ref, Result} ->
            demonitor(Monitor, [flush]),
            Result;
        {'DOWN', Monitor, process, Pid, Reason} ->
            {error, Reason}
    end.

%% @doc What `sys:change_code/4' of a head on a C-node comes to, which runs it
%% here, on the VM of whoever asked. The plugin's file is looked for here too.
-spec change_code(pid(), module(), OldVsn :: term(), Extra :: term()) -> ok | {error, reason()}.
change_code(Head, Module, OldVsn, Extra) ->
    Timeout = application:get_env(erlangsp, change_code_timeout, ?TIMEOUT),
    Modules = modules(Head, Module),
    Renew = fun(CNode) -> esp_plugin:renew(CNode, Modules) end,
    run(Head, {Modules, OldVsn, Extra}, Timeout, Renew).

%% @doc The same for a head on this VM, which waits for nothing.
-spec answer(From :: {pid(), term()}, pid(), module(), OldVsn :: term(), Extra :: term()) -> ok.
answer(From, Head, Module, OldVsn, Extra) ->
    _ = spawn(fun() -> gen:reply(From, change_code(Head, Module, OldVsn, Extra)) end),
    ok.

%% @doc Has a co-op let go of images that no node of it runs since the last purge,
%% as soon as nothing of them is on its way. Waits for nothing.
-spec let_go(pid()) -> ok.
let_go(Head) ->
    _ = spawn(fun() ->
        Watch = monitor(process, Head),
        put(deadline, deadline(?TIMEOUT)),
        try ask(Head, info) of
            #{switches := Switches} ->
                let_go(Head, Watch, [
                    {S, committed(ask(S, generation))}
                 || S <- Switches, node(S) =/= node()
                ])
        catch
            throw:{?MODULE, _} -> ok
        end
    end),
    ok.

%% One that the co-op was told of, by its option `modules', stands for whatever it
%% runs of plugins.
modules(Head, Module) ->
    case coop_names:origin(Head) of
        {ok, {Template, #{modules := Named}}} ->
            case lists:member(Module, Named) of
                true -> [Module | esp_config:plugins(Template)];
                false -> [Module]
            end;
        _ ->
            [Module]
    end.

%%% The coordinator

coordinate(Caller, Ref, Head, Change, Timeout, Renew) ->
    _ = monitor(process, Caller),
    Watch = monitor(process, Head),
    put(deadline, deadline(Timeout)),
    try
        #{switches := Switches} = ask(Head, info),
        lists:foreach(
            fun(CNode) -> ok(Renew(CNode)) end,
            lists:usort([node(S) || S <- Switches, node(S) =/= node()])
        ),
        case [Part || Part <- parts(Switches, Change), concerned(Part)] of
            [] -> none;
            Parts -> change(Head, Watch, Parts, Change)
        end
    of
        none ->
            Caller ! {Ref, ok};
        Left ->
            Caller ! {Ref, ok},
            let_go(Head, Watch, Left)
    catch
        throw:{?MODULE, Reason} -> Caller ! {Ref, {error, Reason}}
    end.

-spec fail(reason()) -> no_return().
fail(Reason) ->
    throw({?MODULE, Reason}).

ok(ok) -> ok;
ok({error, Reason}) -> fail(Reason).

%% What of it is in each home: how many nodes on a C-node, or which there are on
%% a VM.
parts(Switches, {Modules, _, _}) ->
    [{Switch, ask(Switch, {changes, Modules})} || Switch <- Switches].

concerned({_Switch, {native, N}}) -> N > 0;
concerned({_Switch, {vm, Nodes}}) -> Nodes =/= [].

%% Of what has been asked of a home, all or nothing comes true, whatever it has
%% answered by then.
change(Head, Watch, Parts, Change) ->
    Ref = {hold, make_ref()},
    ok(ask(Head, {hold, Ref})),
    try
        await_marks(Ref, Watch, 1),
        try
            Prepared = [prepare(Part, Change) || Part <- Parts],
            await_nothing(Watch),
            commit(Prepared)
        catch
            throw:{?MODULE, Reason} ->
                lists:foreach(fun abort/1, Parts),
                fail(Reason)
        end
    after
        soon(Head, release)
    end.

await_marks(Ref, Watch, Seen) ->
    receive
        {'$coop', flushed, Ref, Total} when Seen >= Total -> ok;
        {'$coop', flushed, Ref, _Total} -> await_marks(Ref, Watch, Seen + 1);
        {'$coop', restarted, Ref, Reason} -> fail({restarted, Reason});
        {'DOWN', Watch, process, _, Reason} -> fail(Reason);
        %% whoever wanted it
        {'DOWN', Caller, process, _, _} when Caller =/= Watch -> fail(noproc)
    after left(get(deadline)) -> fail(timeout)
    end.

%% Whoever wanted it may be gone by now.
await_nothing(Watch) ->
    receive
        {'DOWN', Caller, process, _, _} when Caller =/= Watch -> fail(noproc)
    after 0 -> ok
    end.

prepare({Switch, {native, _}}, {Modules, OldVsn, Extra}) ->
    case ask(Switch, {prepare_change, Modules, OldVsn, Extra}) of
        {ok, _} -> {Switch, native};
        {error, Reason} -> fail(Reason)
    end;
prepare({Switch, {vm, Nodes}}, {Modules, _, _} = Change) ->
    Asked = [{Name, gen:send_request(Pid, '$coop', {prepare_change, Change})} || {Name, Pid} <- Nodes],
    lists:foreach(fun answered/1, Asked),
    %% one of them may have started others before it was asked
    {vm, All} = ask(Switch, {changes, Modules}),
    case All -- Nodes of
        [] -> {Switch, {vm, Nodes}};
        More ->
            {_, {vm, Rest}} = prepare({Switch, {vm, More}}, Change),
            {Switch, {vm, Nodes ++ Rest}}
    end.

%% One that has ended in order meanwhile has no state to change.
answered({Name, Request}) ->
    case gen:wait_response(Request, left(get(deadline))) of
        {reply, ok} -> ok;
        {reply, {error, Reason}} -> fail({Name, Reason});
        timeout -> fail({Name, timeout});
        {error, {Reason, _}} when Reason =:= normal; Reason =:= noproc -> ok;
        {error, {Reason, _}} -> fail({Name, Reason})
    end.

%% A C-node may still say no, if it has a new body meanwhile; and then so has the
%% VM.
commit(Parts) ->
    put(deadline, deadline(infinity)),
    {Native, OnVm} = lists:partition(fun({_, What}) -> What =:= native end, Parts),
    Left = [{Switch, committed(ask(Switch, commit_change))} || {Switch, native} <- Native],
    lists:foreach(
        fun({Name, Pid}) -> answered({Name, gen:send_request(Pid, '$coop', commit_change)}) end,
        lists:append([Nodes || {_, {vm, Nodes}} <- OnVm])
    ),
    Left.

committed({ok, Generation}) -> Generation;
committed({error, Reason}) -> fail(Reason).

abort({Switch, {native, _}}) -> soon(Switch, abort_change);
abort({_Switch, {vm, Nodes}}) -> [soon(Pid, abort_change) || {_, Pid} <- Nodes].

%% By whom it does not hear, this process's end is noticed.
soon(Pid, Request) ->
    try
        coop_process:ask(Pid, Request, ?SOON)
    catch
        exit:_ -> ok
    end.

ask(Pid, Request) ->
    try
        coop_process:ask(Pid, Request, left(get(deadline)))
    catch
        exit:Reason -> fail(Reason)
    end.

%% Data that were under way when the code changed go before this barrier.
let_go(_Head, _Watch, []) ->
    ok;
let_go(Head, Watch, Left) ->
    Ref = {hold, make_ref()},
    Head ! {'$coop', flush, {self(), Ref}},
    put(deadline, infinity),
    try await_end_of_barrier(Ref, Watch, 1) of
        ok -> lists:foreach(fun({Switch, N}) -> soon(Switch, {let_go, N}) end, Left);
        %% what waited in the body that was waits in the new one
        restarted -> let_go(Head, Watch, Left)
    catch
        throw:{?MODULE, _} -> ok
    end.

await_end_of_barrier(Ref, Watch, Seen) ->
    receive
        {'$coop', flushed, Ref, Total} when Seen >= Total -> ok;
        {'$coop', flushed, Ref, _Total} -> await_end_of_barrier(Ref, Watch, Seen + 1);
        {'$coop', restarted, Ref, _} -> restarted;
        {'DOWN', Watch, process, _, Reason} -> fail(Reason)
    end.

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).
