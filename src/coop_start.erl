%% The way from a template and its options to a running co-op: all checks first,
%% the C-node's included, then the start, in the home of its nodes.
-module(coop_start).

-export([start_link/2]).

-spec start_link(coop_flow:template(), map()) ->
    {ok, Head :: pid(), esp_config:coop_options()} | {error, term()}.
start_link(Template, Options0) ->
    case prepare(Template, Options0) of
        {ok, Spec, Plugins, Options = #{start_timeout := Timeout}} ->
            case coop_body:has_native(Spec) of
                false -> started(start_here(Spec, undefined, Timeout), Options);
                true -> started(start_there(Spec, Plugins, Options, deadline(Timeout)), Options)
            end;
        {error, _} = Error ->
            Error
    end.

prepare(Template, Options0) ->
    case {whereis(coop_names), esp_config:coop(Options0)} of
        {undefined, _} ->
            {error, {not_started, erlangsp}};
        {_, {ok, Options}} ->
            case esp_config:spec(Template, Options) of
                {ok, Spec = #{dataflow := Dataflow}, Plugins} ->
                    case coop_dataflow:check_head(coop_body:head_home(Spec), Dataflow) of
                        ok -> {ok, Spec, Plugins, Options};
                        {error, _} = Error -> Error
                    end;
                {error, _} = Error ->
                    Error
            end;
        {_, {error, _} = Error} ->
            Error
    end.

started({ok, Head}, Options) -> {ok, Head, Options};
started({error, _} = Error, _Options) -> Error.

start_here(Spec, CNode, Timeout) ->
    coop_names:former(coop_body:key(self(), Spec), Timeout),
    coop_kill_switch:start(Spec, self(), CNode).

%% A C-node that is lost on the way took along what it had of this co-op, so the
%% start begins anew with the next one, as long as there is time.
start_there(Spec, Plugins, Options = #{node := Name}, Deadline) ->
    case esp_node:await(Name, left(Deadline)) of
        {ok, CNode} ->
            Owner = esp_nodes:owner(Name),
            case start_on(CNode, Spec, Plugins, Name, left(Deadline)) of
                {error, Reason} ->
                    case Reason =:= noconnection orelse is_lost(Owner) of
                        true -> start_again(Reason, Owner, Spec, Plugins, Options, Deadline);
                        false -> {error, Reason}
                    end;
                Result ->
                    Result
            end;
        {error, _} = Error ->
            Error
    end.

%% What was said to the one that is gone may have reached the next one of its
%% name, which has not loaded its plugins yet.
is_lost(undefined) -> false;
is_lost(Owner) -> not is_process_alive(Owner).

start_again(Reason, Owner, Spec, Plugins, Options, Deadline) ->
    case left(Deadline) of
        0 ->
            {error, Reason};
        Left ->
            esp_nodes:await_loss(Owner, Left),
            start_there(Spec, Plugins, Options, Deadline)
    end.

start_on(CNode, Spec, Plugins, Name, Timeout) ->
    case load(Plugins, Name) of
        ok ->
            WireSpec = esp_config:wire_spec(Spec),
            case request(CNode, {check, WireSpec}) of
                ok ->
                    case coop_body:has_vm(Spec) of
                        true -> start_here(Spec, CNode, Timeout);
                        false -> request(CNode, {start, WireSpec})
                    end;
                {error, _} = Error ->
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

load([], _Name) ->
    ok;
load([{Node, Plugin} | Rest], Name) ->
    case esp_node:ensure_plugin(Name, Plugin) of
        ok -> load(Rest, Name);
        {error, noconnection} = Error -> Error;
        {error, Reason} -> {error, {bad_node, Node, Reason}}
    end.

%% No limit, as for the init of a gen_server: what is lost is noticed.
request(CNode, Request) ->
    try
        gen_server:call({erlangsp, CNode}, Request, infinity)
    catch
        exit:{{nodedown, _}, _} -> {error, noconnection};
        exit:{noconnection, _} -> {error, noconnection};
        exit:{Reason, _} -> {error, Reason}
    end.

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).
